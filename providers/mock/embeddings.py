"""Deterministic embeddings: equal input, equal unit vector."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import struct
from typing import Any

import msgspec

from providers.mock.requests import EmbeddingsRequest, RequestRefusedError, token_count

DEFAULT_DIMENSIONS = 1536
"""What `text-embedding-3-small` answers."""


@functools.lru_cache(maxsize=256)
def vector_bytes(source: bytes, dimensions: int) -> bytes:
    """A vector of length 1 as little-endian float32, made of an extendable hash of `source`."""
    numbers = struct.unpack(f"<{dimensions}i", hashlib.shake_256(source).digest(4 * dimensions))
    scale = 1 / math.hypot(*numbers)
    return struct.pack(f"<{dimensions}f", *[number * scale for number in numbers])


def embeddings_body(request: EmbeddingsRequest) -> dict[str, Any]:
    """OpenAI's answer to an embeddings request. Raises `RequestRefusedError`."""
    inputs = _inputs(request.input)
    dimensions = request.dimensions or DEFAULT_DIMENSIONS
    data = []
    for index, item in enumerate(inputs):
        packed = vector_bytes(msgspec.json.encode(item), dimensions)
        embedding = (
            base64.b64encode(packed).decode()
            if request.encoding_format == "base64"
            else struct.unpack(f"<{dimensions}f", packed)
        )
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    tokens = sum(token_count(item) if isinstance(item, str) else len(item) for item in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def _inputs(given: str | list[str | int | list[int]]) -> list[str] | list[list[int]]:
    """The texts or token lists of `input`: one text and one token list may stand alone there."""
    if isinstance(given, str):
        inputs: Any = [given]
    elif all(isinstance(item, int) for item in given):
        inputs = [given]
    else:
        inputs = given
    kind = type(inputs[0])
    if kind is int or any(type(item) is not kind or not item for item in inputs):
        raise RequestRefusedError(
            "Invalid 'input': give a text, a list of texts, a list of token ids or a list of those; none empty.",
            param="input",
        )
    return inputs  # type: ignore[no-any-return]  # one of the two lists, by the check above
