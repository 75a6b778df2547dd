"""Deterministic embeddings: a unit vector per input, equal input giving an equal vector, as float or as base64."""

import base64
import functools
import hashlib
import math
from array import array
from typing import Any

import orjson

from tests.fakes.openai.usage import embedding_tokens

DEFAULT_DIMENSIONS = 1536
MODEL_DIMENSIONS = {"text-embedding-3-large": 3072}


@functools.lru_cache(maxsize=4096)
def vector(source: str | tuple[int, ...], dimensions: int) -> "array[float]":
    """A float32 vector of length 1 made from `source` (text or token ids).

    The hash is an extendable one, so a shorter vector is the normalised beginning of the longer one, as the vendor's.
    """
    numbers = array("i", hashlib.shake_256(orjson.dumps(source)).digest(4 * dimensions))
    norm = math.sqrt(sum(number * number for number in numbers))
    return array("f", (number / norm for number in numbers))


def inputs_of(body: dict[str, Any]) -> list[str | list[int]]:
    """The request's input as a list: a single string or a single token-id list becomes its only item."""
    given = body["input"]
    single = isinstance(given, str) or isinstance(given[0], int)
    return [given] if single else given


def embeddings_body(body: dict[str, Any]) -> dict[str, Any]:
    """The vendor's answer to a valid embeddings request. base64 is little-endian float32."""
    inputs = inputs_of(body)
    dimensions = body.get("dimensions") or MODEL_DIMENSIONS.get(body["model"], DEFAULT_DIMENSIONS)
    data = []
    for index, item in enumerate(inputs):
        numbers = vector(item if isinstance(item, str) else tuple(item), dimensions)
        as_base64 = body.get("encoding_format") == "base64"
        embedding = base64.b64encode(numbers.tobytes()).decode() if as_base64 else numbers.tolist()
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    tokens = embedding_tokens(inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}
