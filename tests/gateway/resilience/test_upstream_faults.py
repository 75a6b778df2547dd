"""What providers do wrong, one by one: before the first content another deployment answers and the client sees nothing
of it; after it, the client gets an error event and pays for what it got."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.gateway.money import books_balance
from tests.gateway.resilience.conftest import HELLO, Pair
from tests.live import LiveServer, until

LONE = {"model": "fake-chat", "messages": HELLO}
BYTE_BY_BYTE = tuple(bytes([byte]) for byte in b'data: {"choices": [{"delta": {"content"')
ROLE = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'  # noqa: E501
WORD = ROLE.replace(b'"content":""', b'"content":"word"')

BEFORE = {
    "hangs before headers": Script(hold_before_headers=True),
    "hangs before the first content": Script(fault="hold", fault_after_events=1),
    "closes at once": Script(drop_before_headers="close"),
    "resets at once": Script(drop_before_headers="reset"),
    "resets before the first content": Script(fault="reset", fault_after_events=1, cut_body_at=20),
    "sends a byte now and then": Script(raw_events=BYTE_BY_BYTE, chunk_pause_seconds=0.3, hold_before_headers=False),
    "sends pings only": Script(raw_events=(b": ping\n\n",) * 20, chunk_pause_seconds=0.2),
    "garbage": Script(raw_events=(b"data: <html>busy</html>\n\n",), raw_body=b"<html>busy</html>"),
    "half of its JSON": Script(raw_events=(b'data: {"id": "x", "cho\n\n',), raw_body=b'{"id": "x", "cho'),
    "bad UTF-8": Script(raw_events=(b'data: {"\xff\xfe": 1, "choices"\n\n',), raw_body=b'{"choices": "\xff\xfe"}'),
    "10 MB of nothing on one line": Script(
        raw_events=(b"data: " + b"x" * 10_000_000 + b"\n\n",), raw_body=b"x" * 10_000_000
    ),
    "an end before the beginning": Script(fault="end", fault_after_events=0, raw_body=b""),
    "nothing but its [DONE]": Script(raw_events=(b"data: [DONE]\n\n",), raw_body=b"{}"),
    "500": Script(status=500),
    "529": Script(status=529),
    "404": Script(status=404),
    "401": Script(status=401),
    "429": Script(status=429),
    "429 for a minute": Script(status=429, headers={"retry-after": "60"}),
}


def is_about_streams(fault: str) -> bool:
    script = BEFORE[fault]
    return bool(script.raw_events and script.raw_body is None) or fault == "hangs before the first content"


@pytest.mark.parametrize(
    ("fault", "stream"),
    [(fault, stream) for fault in BEFORE for stream in (False, True) if stream or not is_about_streams(fault)],
)
def test_before_the_first_content_another_answers(
    pair: Pair, upstream: FakeOpenAI, platform: Platform, fault: str, stream: bool
) -> None:
    script = BEFORE[fault]
    upstream.script(script, times=None)
    answer = pair.ask(stream=stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-provider"] == pair.fallback_name
    assert (answer.headers["x-gateway-attempts"], answer.headers["x-gateway-fallback"]) == ("2", "true")
    if stream:
        assert answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text
    assert (len(upstream.records), len(pair.healthy.all_ended())) == (1, 1)
    charge = platform.settled(answer.headers["x-request-id"])
    assert charge.provider_name == pair.fallback_name
    upstream.release()


@pytest.mark.parametrize("stream", [False, True])
def test_split_at_every_byte(pair: Pair, upstream: FakeOpenAI, stream: bool) -> None:
    upstream.script(Script(text="größer als 😀", split_bytes=1), times=None)
    answer = pair.ask(stream=stream)
    assert answer.status_code == 200 and answer.headers["x-gateway-attempts"] == "1"
    assert "😀" in answer.text or "\\ud83d\\ude00" in answer.text
    assert not stream or answer.text.endswith("data: [DONE]\n\n")


def test_10_mb_on_one_line_is_an_answer(pair: Pair, upstream: FakeOpenAI) -> None:
    upstream.script(Script(pieces=("a", "b" * 10_000_000)))
    answer = pair.ask(stream=True)
    assert len(answer.text) > 10_000_000 and answer.text.endswith("data: [DONE]\n\n")


LATER = {
    "hangs": Script(pieces=("one ", "two ", "three "), fault="hold", fault_after_events=3, chunk_pause_seconds=0.05),
    "pings for ever": Script(raw_events=(ROLE, WORD, *(b": ping\n\n",) * 40), chunk_pause_seconds=0.2),
    "a byte now and then": Script(raw_events=(ROLE, WORD, *BYTE_BY_BYTE), chunk_pause_seconds=0.2),
    "bad UTF-8": Script(raw_events=(ROLE, WORD, b"data: \xff\xfe\n\n"), chunk_pause_seconds=0.05),
}


@pytest.mark.parametrize("fault", LATER)
def test_after_the_first_content_an_error_event(
    pair: Pair, upstream: FakeOpenAI, platform: Platform, fault: str
) -> None:
    upstream.script(LATER[fault], times=None)
    answer = pair.ask(stream=True)
    assert answer.status_code == 200
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    error = json.loads(events[-1])["error"]
    assert (error["code"], error["finish_reason"]) == ("provider_error", "error")
    charge = platform.settled(answer.headers["x-request-id"])
    assert charge.ending == "failed" and charge.cost_nano_usd > 0
    assert pair.healthy.records == [], "what has begun is not begun anew"
    until(lambda: all(record.ended_at for record in upstream.records), what="the provider being let go")


def test_a_primary_that_flaps(pair: Pair, upstream: FakeOpenAI) -> None:
    """Every other call to it fails, before or after its first content is due."""
    for number in range(200):
        bad = (Script(status=500), Script(drop_before_headers="reset"))[number // 2 % 2]
        upstream.script(bad if number % 2 else Script())
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: pair.ask(stream=number % 2 == 0), range(200)))
    good = [answer for answer in answers if answer.status_code == 200 and '"error"' not in answer.text]
    assert len(good) == 200
    books_balance()


@pytest.mark.parametrize(("retry_after", "asked"), [("1", 2), ("60", 1), ("a date", 2), ("-5", 2), ("abc", 2)])
def test_retry_after(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, retry_after: str, asked: int
) -> None:
    """A lone deployment is waited for, for 10 s at most; what cannot be read counts as a second."""
    if retry_after == "a date":
        retry_after = email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2), usegmt=True)
    upstream.script(Script(status=429, headers={"retry-after": retry_after}))
    with uvicorn.client(platform.key) as client:
        answer = client.post("/chat/completions", json=LONE)
    assert answer.status_code == (200 if asked == 2 else 503)
    assert len(upstream.all_ended()) == asked
    if asked == 1:
        assert answer.headers["retry-after"] == "60"
    else:
        assert (answer.headers["x-gateway-attempts"], answer.headers["x-gateway-fallback"]) == ("2", "false")


def test_a_storm_of_429s(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, second: FakeOpenAI) -> None:
    """Attempts stay below a fifth more than requests, and what the budget's floor allows."""
    upstream.script(Script(status=429, headers={"retry-after": "0"}), times=None)

    def ask(_: int) -> Any:
        with uvicorn.client(platform.key) as client:
            return client.post("/chat/completions", json=LONE)

    began = time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(200)))
    floor = 3 * (10 + time.monotonic() - began)
    assert {answer.status_code for answer in answers} == {503}
    assert len(upstream.all_ended()) <= 1.2 * 200 + floor
    books_balance()
