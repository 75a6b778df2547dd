"""The adapter's pure functions: any split of the bytes, any oddity of a provider."""

from __future__ import annotations

import datetime as dt
import email.utils
import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.adapters.openai_compatible import OpenAICompatibleAdapter, OpenAIStreamDecoder
from providers.errors import MESSAGE_LIMIT, Failure, ProviderError
from providers.failures import retry_after_seconds
from providers.sse import SseDecoder
from providers.types import Chunk, Target, WireRequest

ADAPTER = OpenAICompatibleAdapter()
TARGET = Target(
    deployment_id=1,
    model_id=1,
    model_name="small",
    provider_name="p",
    kind="openai_compatible",
    base_url="https://api.example.com/v1",
    allow_private_network=False,
    secret="sk-1",
    upstream_model="vendor/small-2026",
)


def chunk(delta: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish_reason", None)}
    return json.dumps({"id": "c", "choices": [choice], **more}).encode()


STREAM = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Grüße, "}),
    chunk({"content": "Wëlt 🌍"}),
    chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]}),
    chunk({}, finish_reason="stop"),
    json.dumps({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode(),
]
WIRE = {
    "lf": b"".join(b"data: " + event + b"\n\n" for event in STREAM) + b"data: [DONE]\n\n",
    "crlf": b": hello\r\n\r\n" + b"".join(b"data:" + event + b"\r\n\r\n" for event in STREAM) + b"data: [DONE]\r\n\r\n",
    "named": b"".join(b"event: x\nid: 1\ndata: " + event + b"\n\n" for event in STREAM) + b"data: [DONE]\n\n",
}


def feed(pieces: list[bytes]) -> tuple[OpenAIStreamDecoder, list[Chunk]]:
    decoder = OpenAIStreamDecoder()
    return decoder, [found for piece in pieces for found in decoder.feed(piece)]


@pytest.mark.parametrize("form", WIRE)
@given(cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_any_split_gives_the_same_chunks(form: str, cuts: list[int]) -> None:
    data = WIRE[form]
    places = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    decoder, chunks = feed([data[start:end] for start, end in itertools.pairwise(places)])
    assert [found.data for found in chunks] == STREAM
    assert [found.has_content for found in chunks] == [False, True, True, True, False, False]
    assert chunks[-1].usage_only and chunks[-1].usage is not None and chunks[-1].usage.output_tokens == 4
    assert decoder.finished and decoder.failure is None


@pytest.mark.parametrize("form", WIRE)
def test_byte_by_byte(form: str) -> None:
    decoder, chunks = feed([bytes([byte]) for byte in WIRE[form]])
    assert [found.data for found in chunks] == STREAM and decoder.finished


@given(st.binary(max_size=300))
def test_garbage_never_raises(data: bytes) -> None:
    decoder, _ = feed([b"data: ", data, b"\n\n"])
    assert decoder.failure is None or decoder.failure.failure is Failure.BROKEN


def test_what_came_before_a_fault_is_kept() -> None:
    decoder, chunks = feed([b"data: " + STREAM[1] + b"\n\ndata: {broken\n\ndata: " + STREAM[2] + b"\n\n"])
    assert [found.data for found in chunks] == [STREAM[1]]
    assert decoder.failure is not None and not decoder.finished
    assert decoder.feed(b"data: " + STREAM[2] + b"\n\n") == []


def test_an_endless_event_is_a_fault() -> None:
    with pytest.raises(ProviderError):
        SseDecoder().feed(b"data: " + b"x" * (17 * 1024 * 1024))


def build(body: dict[str, Any], *, stream: bool = False) -> tuple[Any, dict[str, str]]:
    members = msgspec.json.decode(json.dumps(body), type=dict[str, msgspec.Raw])
    request = ADAPTER.build_request(WireRequest(operation="chat", members=members, stream=stream), TARGET)
    assert request.url == "https://api.example.com/v1/chat/completions"
    return json.loads(request.body), request.headers


def test_a_request_passes_but_for_its_model() -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "é"}], "x": {"deep": [1, 2.5, None]}, "async": 1}
    sent, headers = build(body)
    assert sent == {"model": "vendor/small-2026", "messages": body["messages"], "x": body["x"]}
    assert headers["authorization"] == "Bearer sk-1"


@pytest.mark.parametrize("given_options", [None, {"include_usage": False}, {"include_obfuscation": False}])
def test_usage_is_always_asked_for_in_a_stream(given_options: Any) -> None:
    body: dict[str, Any] = {"model": "small", "messages": [], "stream": True, "stream_options": given_options}
    sent, _ = build(body, stream=True)
    assert sent["stream_options"]["include_usage"] is True
    if given_options and "include_obfuscation" in given_options:
        assert sent["stream_options"]["include_obfuscation"] is False


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (302, Failure.BROKEN),
        (400, Failure.REFUSED_INPUT),
        (401, Failure.REFUSED_CREDENTIAL),
        (402, Failure.REFUSED_CREDENTIAL),
        (403, Failure.REFUSED_CREDENTIAL),
        (404, Failure.BROKEN),
        (413, Failure.REFUSED_INPUT),
        (422, Failure.REFUSED_INPUT),
        (429, Failure.THROTTLED),
        (500, Failure.BROKEN),
        (529, Failure.BROKEN),
    ],
)
def test_statuses(status: int, failure: Failure) -> None:
    assert ADAPTER.parse_error(status, headers={}, body=b"").failure is failure


@pytest.mark.parametrize(
    "body", [b'{"error": {"message": "m", "param": "p"}}', b'{"error": "m"}', b"m", b"\xff", b"", b"[" * 10_000]
)
def test_error_bodies(body: bytes) -> None:
    error = ADAPTER.parse_error(500, headers={}, body=body)
    assert error.message and len(error.message) <= MESSAGE_LIMIT


def test_retry_after() -> None:
    soon = email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30))
    found = retry_after_seconds({"retry-after": soon})
    assert found is not None and 25 < found <= 30
    values = {"1": 1.0, "0": 0.0, "1.5": 1.5, "-5": None, "abc": None, "": None, "nan": None, "1e300": None}
    assert {text: retry_after_seconds({"retry-after": text}) for text in values} == values
