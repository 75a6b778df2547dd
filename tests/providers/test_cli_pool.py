"""The session pool by itself: what takes a program that does not even begin, or a clock that is not the server's."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from providers.adapters.cli import ADAPTER
from providers.cli import session as session_module
from providers.cli.config import PoolConfig
from providers.cli.pool import SessionPool, pause_seconds
from providers.cli.session import SessionState
from providers.errors import DeadlineError, Failure, ProviderError
from providers.transport import Deadlines, Transport, read_all
from providers.types import Target, UpstreamRequest, WireRequest
from tests.docs.markdown import blocks, reference
from tests.fakes.cli import COMMAND

TARGET = Target(
    deployment_id=1, model_id=1, model_name="m", provider_name="cli", kind="cli", base_url="cli://pool",
    allow_private_network=False, secret=None, upstream_model="m",
)  # fmt: skip
WAIT_SECONDS = 20


def asking(text: str) -> UpstreamRequest:
    messages = msgspec.Raw(msgspec.json.encode([{"role": "user", "content": text}]))
    return ADAPTER.build_request(WireRequest(operation="chat", members={"messages": messages}), TARGET)


async def say(pool: SessionPool, text: str) -> str:
    response = await pool.send(asking(text))
    body = ADAPTER.parse_response("chat", await read_all(response)).body
    return str(msgspec.json.decode(body)["choices"][0]["message"]["content"])


async def soon(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(WAIT_SECONDS):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


@pytest.fixture
def running(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def run(*command: str, **more: Any) -> AsyncIterator[SessionPool]:
        settings = {"size": 1, "overflow": 0, "request_timeout_seconds": WAIT_SECONDS, **more}
        pool = SessionPool(PoolConfig(command=command or COMMAND, folder=tmp_path / "cli", environment={}, **settings))
        pool.start()
        try:
            yield pool
        finally:
            pids = [session["pid"] for session in pool.described() if session["pid"]]
            await pool.close()
            assert not any(map(psutil.pid_exists, pids)) and not any(pool.standing().values())

    return run


async def test_a_program_that_does_not_exist(running: Any) -> None:
    async with running("/no/such/program") as pool:
        await soon(lambda: pool.standing()["dead"])
        with pytest.raises(ProviderError) as caught:
            await pool.send(asking("hello"))
        assert caught.value.failure is Failure.UNREACHABLE and "No such file" in caught.value.message


async def test_one_that_ends_at_once_is_started_again_and_again(running: Any) -> None:
    async with running(sys.executable, "-c", "raise SystemExit(7)") as pool:
        await soon(lambda: pool.described()[0]["restarts"] >= 2)


def test_the_pauses_between_starts_grow() -> None:
    assert [pause_seconds(failures) for failures in (0, 1, 2, 3, 4, 8, 10_000)] == [0, 0, 0.5, 1, 2, 30, 30]


async def test_a_request_waits_for_a_session_that_starts(running: Any) -> None:
    async with running(*COMMAND, "--slow", "0.2") as pool:
        assert await say(pool, "early") == "You said: early"
        (session,) = pool.described()
        assert (session["requests"], session["restarts"]) == (1, 0)


async def test_those_that_wait_are_told_when_none_can_come(running: Any) -> None:
    ends_late = "import time; time.sleep(0.3); raise SystemExit(7)"
    async with running(sys.executable, "-c", ends_late) as pool:
        with pytest.raises(ProviderError, match="No CLI session can be had") as caught:
            await say(pool, "hello")
        assert caught.value.failure is Failure.UNREACHABLE


async def test_waiting_too_long_is_the_connect_deadline(running: Any) -> None:
    async with running(request_timeout_seconds=0.5) as pool:
        await soon(lambda: pool.standing()["idle"])
        busy = await pool.send(asking("silence"))
        with pytest.raises(DeadlineError) as caught:
            await say(pool, "hello")
        assert caught.value.deadline == "connect" and pool.standing()["waiting"] == 0
        busy.close()


async def test_an_idle_session_is_pinged_and_a_deaf_one_replaced(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PING_SECONDS", 0.3)
    async with running(*COMMAND, "--deaf", "3", keep_alive_seconds=0.05) as pool:
        first = await soon(lambda: pool.described()[0]["pid"])
        await soon(lambda: pool.described()[0]["restarts"] >= 1 and pool.standing()["idle"])
        assert not psutil.pid_exists(first)
        assert await say(pool, "hello") == "You said: hello"


async def test_a_live_session_survives_its_pings(running: Any) -> None:
    async with running(keep_alive_seconds=0.02) as pool:
        session = (await soon(lambda: [*pool._sessions.values()]))[0]
        await soon(lambda: session._exchanges > 5 and session.state is SessionState.IDLE)
        assert await say(pool, "hello") == "You said: hello"
        assert pool.described()[0]["restarts"] == 0


async def test_one_that_gives_up_waiting_loses_no_session(running: Any) -> None:
    """Whoever is cancelled in the moment a session is handed over passes it on."""
    async with running() as pool:
        await soon(lambda: pool.standing()["idle"])
        for _ in range(20):
            held = await pool.send(asking("short"))
            waiter = asyncio.create_task(pool.send(asking("never asked")))
            await soon(lambda: pool.standing()["waiting"])
            await read_all(held)  # gives the session to the waiter, which has not run since
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
        assert await say(pool, "hello") == "You said: hello"
        assert pool.described()[0]["restarts"] == 0


async def test_the_pool_takes_one_line_of_its_own_adapter_only(running: Any) -> None:
    async with running() as pool:
        for url, body in (
            ("cli://pool/chat", b'{"a":\n1}'),
            ("cli://pool/chat/completions", b"{}"),
            ("cli:/bin/sh", b"{}"),
        ):
            with pytest.raises(ProviderError):
                await pool.send(UpstreamRequest(url=url, headers={}, body=body))


async def test_health_says_whether_a_session_is_ready(running: Any) -> None:
    async with running(*COMMAND, "--slow", "0.2") as pool:
        question = ADAPTER.check_health(TARGET)
        assert (await pool.send(question)).status == 503
        await soon(lambda: pool.standing()["idle"])
        answer = await pool.send(question)
        assert (answer.status, await read_all(answer)) == (200, b"")
        assert ADAPTER.parse_models(b"").models == []
        assert ADAPTER.parse_error(503, headers={}, body=b"").failure is Failure.BROKEN


async def test_a_process_without_a_pool_can_say_nothing_of_it() -> None:
    transport = Transport()
    try:
        answer = await transport.send(ADAPTER.check_health(TARGET), deadlines=Deadlines(), allow_private_network=False)
        assert answer.status == 501, "probes take that for neither a yes nor a no"
        with pytest.raises(ProviderError, match="LLM_CLI_COMMAND"):
            await transport.send(asking("hello"), deadlines=Deadlines(), allow_private_network=False)
    finally:
        await transport.close()


async def test_the_example_of_the_documentation_runs(running: Any, tmp_path: Path) -> None:
    program = tmp_path / "echo.py"
    program.write_text(blocks(reference("cli-backend"), "python")[0])
    async with running(sys.executable, str(program)) as pool:
        assert await say(pool, "hello") == "You said: hello"
        assert await say(pool, "again") == "You said: again"


TOOL = """
import json, sys
said = json.loads(sys.stdin.readline())["message"]["content"]
def tell(**event): print(json.dumps(event), flush=True)
tell(type="system", subtype="init")
if "complain" in said:
    tell(type="result", is_error=True, result="not logged in")
else:
    for piece in ("<", said, ">"):
        delta = {"type": "text_delta", "text": piece}
        tell(type="stream_event", event={"type": "content_block_delta", "index": 0, "delta": delta})
    tell(type="assistant", message={"content": [{"type": "text", "text": said}]})
    tell(type="result", is_error=False, result=said, usage={"input_tokens": 3, "output_tokens": 5})
"""


async def test_the_wrapper_of_the_documentation_gives_each_request_a_fresh_tool(running: Any, tmp_path: Path) -> None:
    wrapper, tool = tmp_path / "wrapper.py", tmp_path / "tool.py"
    wrapper.write_text(blocks(reference("cli-backend"), "python")[1])
    tool.write_text(TOOL)
    async with running(sys.executable, str(wrapper), sys.executable, str(tool)) as pool:
        assert await say(pool, "one") == "<user: one>"
        assert await say(pool, "two") == "<user: two>"
        response = await pool.send(asking("three"))
        usage = ADAPTER.parse_response("chat", await read_all(response)).usage
        assert usage is not None and (usage.input_tokens, usage.output_tokens) == (3, 5)
        with pytest.raises(ProviderError, match="not logged in"):
            await say(pool, "complain")
