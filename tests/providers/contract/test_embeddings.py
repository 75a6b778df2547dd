"""Embeddings through every adapter that offers them, asked by OpenAI's SDK over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from providers.registry import adapter_for
from tests.fakes.openai.embeddings import vector
from tests.providers.contract.providers import UNDER_CONTRACT
from tests.providers.contract.reading import Side

SPOKEN_TO = [entry.kind for entry in UNDER_CONTRACT if entry.fake is not None]
OFFERED_BY = [kind for kind in SPOKEN_TO if "embeddings" in adapter_for(kind).operations]
TEXTS = ["Grüße 🌍", "one two three"]
TRANSLATED = ("google", "ollama")
"""Those that take texts only, each model having tokens of its own."""


def sdk(side: Side) -> OpenAI:
    key = side.client.headers["authorization"].removeprefix("Bearer ")
    return OpenAI(base_url=str(side.client.base_url), api_key=key, max_retries=0)


@pytest.mark.parametrize("side", OFFERED_BY, indirect=True)
@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_the_vectors_are_the_same(side: Side, encoding: Any) -> None:
    with sdk(side) as client:
        more = {} if encoding is None else {"encoding_format": encoding}
        answer = client.embeddings.create(model=side.model, input=TEXTS, dimensions=8, **more)
    expected = [vector(text, 8).tolist() for text in TEXTS]
    if encoding == "base64":
        assert all(isinstance(row.embedding, str) for row in answer.data)
    else:
        assert [row.embedding for row in answer.data] == [pytest.approx(numbers) for numbers in expected]
    assert [row.index for row in answer.data] == [0, 1]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 5)


@pytest.mark.parametrize("side", TRANSLATED, indirect=True)
def test_tokens_are_refused_where_they_mean_nothing(side: Side) -> None:
    with sdk(side) as client, pytest.raises(BadRequestError) as refused:
        client.embeddings.create(model=side.model, input=[1, 2, 3])
    assert (refused.value.code, refused.value.param) == ("capability_not_supported", "input")
    assert side.fake is not None and not side.fake.records
