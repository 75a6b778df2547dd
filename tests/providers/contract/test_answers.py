"""Every question to every adapter, whole and streamed, over HTTP: one answer in OpenAI's shape.

What a provider cannot do is `capability_not_supported`, and never a wrong answer.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.providers.contract.providers import UNDER_CONTRACT
from tests.providers.contract.questions import HELLO, QUESTIONS, Question
from tests.providers.contract.reading import Side, joined, whole

everyone = pytest.mark.parametrize("side", [entry.kind for entry in UNDER_CONTRACT], indirect=True)
SAME_PROTOCOL = ("openai_compatible", "openai", "mock")
"""Kinds that are sent the client's members as they are."""

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@everyone
@both_ways
@pytest.mark.parametrize("question", QUESTIONS, ids=[question.name for question in QUESTIONS])
def test_the_answer_is_the_same(side: Side, question: Question, stream: bool) -> None:
    if question.script is not None and side.fake is not None:
        word = question.script.finish_reason
        side.fake.script(replace(question.script, finish_reason=side.provider.finish_words.get(word or "", word)))
    body = {"model": side.model, "messages": HELLO, "stream": stream, **question.ask}
    if stream:
        body["stream_options"] = {"include_usage": True}
    answer = side.client.post("/chat/completions", json=body)
    refused = dict.fromkeys(side.provider.cannot, "capability_not_supported")
    refused |= dict.fromkeys(side.provider.fetched, "validation_error")
    if question.name in refused:
        assert answer.status_code == 400 and answer.json()["error"]["code"] == refused[question.name]
        assert side.fake is None or not side.fake.records
        return
    assert answer.status_code == 200, answer.text
    said = joined(answer.text) if stream else whole(answer.json())
    if side.fake is None:
        check_form(said, question)
    else:
        check_answer(said, question, unsaid=side.provider.unsaid)


def check_answer(said: dict[str, Any], question: Question, *, unsaid: frozenset[str]) -> None:
    if question.content is not None:
        assert said["content"] == question.content
    elif question.calls:
        assert not said["content"]
    assert [(call["name"], json.loads(call["arguments"])) for call in said["calls"]] == list(question.calls)
    assert len({call["id"] for call in said["calls"]}) == len(question.calls) and "" not in said["calls"]
    assert said["reasoning"] == question.reasoning
    if question.finish_reason and question.finish_reason not in unsaid:
        assert said["finish_reason"] == question.finish_reason
    if question.usage is not None:
        usage = said["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == question.usage
        assert usage["total_tokens"] == sum(question.usage)
    if question.cached_tokens and "cached_tokens" not in unsaid:
        assert said["usage"]["prompt_tokens_details"]["cached_tokens"] == question.cached_tokens
    if question.reasoning_tokens and "reasoning_tokens" not in unsaid:
        assert said["usage"]["completion_tokens_details"]["reasoning_tokens"] == question.reasoning_tokens


def check_form(said: dict[str, Any], question: Question) -> None:
    """The mock says what it likes, in the form that was asked for."""
    assert said["finish_reason"] in ("stop", "length", "tool_calls")
    assert said["content"] or said["calls"] or said["finish_reason"] == "length"
    for call in said["calls"]:
        assert call["id"] and isinstance(json.loads(call["arguments"]), dict)
    if question.name in ("json-schema", "json-object"):
        assert isinstance(json.loads(said["content"]), dict)
    assert said["usage"]["total_tokens"] == said["usage"]["prompt_tokens"] + said["usage"]["completion_tokens"]


@everyone
def test_what_is_left_out_is_named(side: Side) -> None:
    answer = side.client.post("/chat/completions", json={"model": side.model, "messages": HELLO, "verbosity": "low"})
    translates = side.provider.kind not in SAME_PROTOCOL
    assert answer.status_code == 200
    assert answer.headers.get("x-gateway-dropped-parameters") == ("verbosity" if translates else None)
    assert side.fake is None or (b"verbosity" in side.fake.all_ended()[-1].raw_body) is not translates
