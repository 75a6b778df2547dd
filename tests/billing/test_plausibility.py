"""Usage against what can be."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from billing.plausibility import UsageBound, later
from providers.adapters.openai_compatible import ADAPTER, read_usage
from providers.types import Usage, WireRequest

BOUND = UsageBound(input_tokens=100, output_tokens=50, reasoning_tokens=30)


def usage(input_tokens: int, output_tokens: int, reasoning_tokens: int = 0, **more: Any) -> Usage:
    return Usage(
        units={}, input_tokens=input_tokens, output_tokens=output_tokens, reasoning_tokens=reasoning_tokens, **more
    )


@pytest.mark.parametrize("fits", [usage(0, 0), usage(100, 50), usage(100, 80, 30)])
def test_what_can_be_is_believed(fits: Usage) -> None:
    assert BOUND.breach(fits) == ""


@pytest.mark.parametrize(
    ("exceeds", "reason"),
    [(usage(101, 0), "101 tokens in"), (usage(0, 51), "51 tokens out"), (usage(0, 81, 31), "31 reasoning tokens")],
)
def test_what_cannot_is_named(exceeds: Usage, reason: str) -> None:
    assert reason in BOUND.breach(exceeds)


def test_the_last_of_several_reports_holds() -> None:
    first, last = usage(10, 1), usage(10, 5)
    assert later(None, first) is first and later(first, last) is last and later(last, last) is last


@pytest.mark.parametrize("second", [usage(9, 5), usage(10, 4)])
def test_a_report_that_takes_something_back_is_not_believed(second: Usage) -> None:
    assert "reported twice, first as 10 tokens in and 5 out" in later(usage(10, 5), second).problem


def test_a_report_that_cannot_be_true_is_overtaken_by_one_that_can() -> None:
    good = usage(10, 5)
    assert later(usage(0, 0, problem="negative"), good) is good


def test_reasoning_beside_the_completion_is_added() -> None:
    """As xAI reports it; OpenAI's completion has its reasoning inside."""
    details = {"completion_tokens_details": {"reasoning_tokens": 94}}
    beside = read_usage(orjson.dumps({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, **details}))
    inside = read_usage(orjson.dumps({"prompt_tokens": 32, "completion_tokens": 103, "total_tokens": 135, **details}))
    assert beside is not None and inside is not None
    assert beside.units == inside.units == {"input": 32, "output": 9, "reasoning": 94}
    assert beside.output_tokens == inside.output_tokens == 103


@pytest.mark.parametrize("nothing", [b"null", b"{}"])
def test_no_report_is_none(nothing: bytes) -> None:
    assert read_usage(nothing) is None


@pytest.mark.parametrize("figure", [b"NaN", b"-Infinity", b'"12"', b"1.5", b"-5", b"1e18", b"null", b"[]", b"1e999"])
def test_a_figure_that_is_none_does_not_cost_the_answer(figure: bytes) -> None:
    told = b'{"prompt_tokens": %b, "completion_tokens": 1}' % figure
    answer = ADAPTER.parse_response(
        WireRequest(operation="chat", members={}),
        b'{"choices": [{"message": {"content": "hello"}}], "usage": %b}' % told,
    )
    assert answer.text_bytes == 5 and json.loads(answer.body)["choices"]
    assert answer.usage is not None and answer.usage.problem and answer.usage.units == {}
    decoder = ADAPTER.decoder()
    (chunk,) = decoder.feed(b'data: {"choices": [], "usage": %b}\n\n' % told)
    assert decoder.failure is None and chunk.usage is not None and chunk.usage.problem and chunk.usage_only


def test_an_errors_text_is_no_output() -> None:
    decoder = ADAPTER.decoder()
    said = b'data: {"error": {"message": "no more"}, "choices": [{"delta": {"content": "no more"}}]}\n\n'
    assert decoder.feed(said) == [] and decoder.failure is not None
