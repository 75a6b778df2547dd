"""The offline mock's embeddings."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

from openai.types import CreateEmbeddingResponse

from providers.adapters.mock import ADAPTER
from providers.types import WireRequest
from tests.providers.mock_calls import ask, body_of


def embeddings(**members: Any) -> dict[str, Any]:
    reply = ask("embeddings", **members)
    assert reply.status == 200
    body = body_of(reply)
    usage = ADAPTER.parse_response(WireRequest(operation="embeddings", members={}), json.dumps(body).encode()).usage
    assert usage is not None
    assert usage.units == {"input": body["usage"]["total_tokens"]}
    return body


def test_embeddings_are_unit_vectors_equal_for_equal_input() -> None:
    body = embeddings(input=["one", "two", "one", "1"])
    CreateEmbeddingResponse.model_validate(body)
    vectors = [item["embedding"] for item in body["data"]]
    assert [item["index"] for item in body["data"]] == [0, 1, 2, 3]
    assert [len(vector) for vector in vectors] == [1536] * 4
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-6) for vector in vectors)
    assert vectors[0] == vectors[2]
    assert len({tuple(vector) for vector in vectors}) == 3
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert embeddings(input="one")["data"][0]["embedding"] == vectors[0]


def test_token_lists_are_inputs_of_their_own() -> None:
    alone, listed = embeddings(input=[1, 2, 3]), embeddings(input=[[1, 2, 3], [1]])
    assert alone["data"] == listed["data"][:1]
    assert alone["usage"]["prompt_tokens"] == 3
    assert embeddings(input="[1,2,3]")["data"] != alone["data"]


def test_base64_holds_the_same_numbers_and_dimensions_count() -> None:
    as_list = embeddings(input="x", dimensions=7)["data"][0]["embedding"]
    packed = base64.b64decode(embeddings(input="x", dimensions=7, encoding_format="base64")["data"][0]["embedding"])
    assert list(struct.unpack("<7f", packed)) == as_list
    assert math.isclose(math.hypot(*as_list), 1, rel_tol=1e-6)
