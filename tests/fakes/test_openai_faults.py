"""The fake OpenAI server going wrong as scripted, clients that leave, and the server as a process of its own."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.fakes.asking import HELLO, raw_stream, say
from tests.fakes.openai_server import DEFAULT_API_KEY, FakeOpenAI, Script, openai_process


@pytest.mark.parametrize("how", ["close", "reset"])
def test_drop_before_headers(fake_openai: FakeOpenAI, vendor_sdk: OpenAI, how: Any) -> None:
    fake_openai.script(Script(drop_before_headers=how))
    with pytest.raises(openai.APIConnectionError):
        say(vendor_sdk)
    [record] = fake_openai.all_ended()
    assert (record.completed, record.client_left, record.status) == (False, False, 0)


@pytest.mark.parametrize("fault", ["close", "reset"])
def test_drop_in_the_middle_of_a_stream(fake_openai: FakeOpenAI, vendor_sdk: OpenAI, fault: Any) -> None:
    fake_openai.script(Script(fault=fault, fault_after_events=3))
    with pytest.raises(openai.APIConnectionError):
        list(say(vendor_sdk, stream=True))
    [record] = fake_openai.all_ended()
    assert (record.completed, record.client_left, record.events_sent) == (False, False, 3)
    assert record.text_sent == "You said:"


def test_cut_body(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(Script(cut_body_at=20))
    with pytest.raises(openai.APIConnectionError):
        say(vendor_sdk)
    assert not fake_openai.all_ended()[0].completed


def test_stream_faults_on_the_wire(fake_openai: FakeOpenAI) -> None:
    whole = raw_stream(fake_openai)
    fake_openai.script(Script(send_done=False))
    assert len(raw_stream(fake_openai)) == len(whole) - 1
    fake_openai.script(Script(fault="end", fault_after_events=2))
    assert len(raw_stream(fake_openai)) == 2
    fake_openai.script(Script(fault="insert", fault_after_events=2, fault_bytes=b"data: {half\n\n"))
    lines = raw_stream(fake_openai)
    assert lines[2] == "data: {half"
    assert len(lines) == len(whole) + 1
    fake_openai.script(Script(fault="error", fault_after_events=2))
    assert json.loads(raw_stream(fake_openai)[2].removeprefix("data: "))["error"]["type"] == "server_error"
    fake_openai.script(Script(split_bytes=1, text="æ"))
    assert json.loads(raw_stream(fake_openai)[1].removeprefix("data: "))["choices"][0]["delta"]["content"] == "æ"
    fake_openai.script(Script(raw_events=(b": ping\n\n", b"data: [DONE]\n\n")))
    assert raw_stream(fake_openai) == [": ping", "data: [DONE]"]


def test_error_inside_a_stream_is_raised_by_the_sdk(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(Script(fault="error", fault_after_events=2, error={"message": "broke down"}))
    with pytest.raises(openai.APIError, match="broke down"):
        list(say(vendor_sdk, stream=True))


def test_hang_before_headers_until_the_client_gives_up(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(Script(hold_before_headers=True))
    with pytest.raises(openai.APITimeoutError):
        say(vendor_sdk.with_options(timeout=0.2))
    [record] = fake_openai.all_ended()
    assert record.client_left
    assert record.produced == {"prompt_tokens": 0, "completion_tokens": 0}


def test_client_that_leaves_in_the_middle_is_seen(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(Script(fault="hold", fault_after_events=4))
    stream = say(vendor_sdk, stream=True, stream_options={"include_usage": True})
    heard = "".join(next(stream).choices[0].delta.content or "" for _ in range(4))
    stream.close()
    [record] = fake_openai.all_ended()
    assert (record.completed, record.client_left) == (False, True)
    assert record.text_sent == heard == "You said: good"
    assert record.produced == {"prompt_tokens": 4, "completion_tokens": 3}
    assert record.usage_sent is None
    assert fake_openai.counters.open_streams == 0


def test_stopping_the_server_ends_held_answers_without_blaming_the_client() -> None:
    # the client stays until the server has stopped
    with contextlib.ExitStack() as afterwards, FakeOpenAI() as fake:
        peer = afterwards.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", port_of(fake)))))
        fake.script(Script(hold_before_headers=True))
        body = json.dumps({"model": "m", "messages": HELLO}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {fake.api_key}\r\n"
        peer.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        fake.wait_until(lambda _: fake.counters.held == 1)
    [record] = fake.records
    assert (record.completed, record.client_left) == (False, False)
    assert record.ended_at is not None


def port_of(fake: FakeOpenAI) -> int:
    return httpx.URL(fake.base_url).port or 0


def test_waiting_for_what_never_comes_shows_the_log(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    say(vendor_sdk)
    with pytest.raises(TimeoutError, match="good morning"):
        fake_openai.wait_until(lambda records: len(records) == 2, timeout_seconds=0.05)


def test_process_mode_writes_json_lines(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    with openai_process(log=log, script=Script(chunk_pause_seconds=0.001)) as base_url:
        origin = base_url.removesuffix("/v1")
        with OpenAI(base_url=base_url, api_key=DEFAULT_API_KEY, max_retries=0) as client, httpx.Client() as control:
            say(client)
            text = list(say(client, stream=True))
            rule = {"script": {"tool_calls": [{"name": "now"}]}, "marker": "good morning"}
            assert control.post(f"{origin}/_fake/script", json=rule).status_code == 204
            assert say(client).choices[0].message.tool_calls[0].function.name == "now"
            assert control.get(f"{origin}/_fake/counters").json()["requests"] == 3
            assert len(control.get(f"{origin}/_fake/log").text.splitlines()) == 3
            assert control.post(f"{origin}/_fake/release").status_code == 204
            assert control.post(f"{origin}/_fake/reset").status_code == 204
            assert control.get(f"{origin}/_fake/log").text == ""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["completed"] for row in rows] == [True, True, True]
    assert rows[1]["id"] == text[0].id
    assert rows[0]["body"] == {"model": "gpt-5.2", "messages": HELLO}
    assert [row["produced"]["completion_tokens"] for row in rows] == [6, 6, 2]
