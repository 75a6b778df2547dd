"""How sessions end that nobody ended: the key is revoked, the process stops or dies, the client does not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket as sockets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed

from billing.models import Attempt, BudgetWindow
from gateway.realtime.rows import close_lost
from tenants.models import Notification, TenantStatus
from tenants.services import revoke_key
from tests.fakes.realtime_openai import FakeRealtime, Turn, usage
from tests.gateway.money import books_balance
from tests.gateway.realtime.conftest import Speaker, event, say, until_event
from tests.live import LiveServer, until

Start = Callable[..., LiveServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[LiveServer] = []

    def begin(server: str = "uvicorn", **environment: str) -> LiveServer:
        running.append(LiveServer(server, tmp_path, **environment))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


def revoke(speaker: Speaker) -> None:
    revoke_key(speaker.tenant.keys.get())


def suspend(speaker: Speaker) -> None:
    speaker.tenant.status = TenantStatus.SUSPENDED
    speaker.tenant.save()


@pytest.mark.parametrize("take_away", [revoke, suspend])
def test_a_session_ends_when_its_key_or_tenant_is_taken_away(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer, take_away: Callable[[Speaker], None]
) -> None:
    voice.turns = [Turn(usage=usage(), deltas=400, pace_seconds=0.05)]

    async def talk() -> tuple[dict[str, Any], int | None, float]:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="response.create")
            await until_event(socket, "response.output_audio.delta")
            taken = time.monotonic()
            await asyncio.to_thread(in_thread, take_away, speaker)
            closed = await until_event(socket, "session.closed")
            await socket.wait_closed()
            return closed, socket.close_code, time.monotonic() - taken

    closed, code, seconds = asyncio.run(talk())
    assert (closed["reason"], code) == ("key_revoked", 1008) and seconds < 5
    (charge,) = speaker.charges()
    assert charge.usage_source == "provider_final"


def in_thread(work: Callable[[Speaker], None], speaker: Speaker) -> None:
    """Have the ORM used outside the event loop, on a connection that is closed again."""
    try:
        work(speaker)
    finally:
        connection.close()


def test_a_process_that_stops_sums_up_every_session(speaker: Speaker, voice: FakeRealtime, start: Start) -> None:
    """Eight sessions, half of them in the middle of a response that ends in time, one of a response that does not."""
    server = start(REALTIME_DRAIN_SECONDS="2")
    speaker.known_to(server)

    async def talk(number: int, ready: asyncio.Barrier) -> tuple[dict[str, Any], int | None]:
        async with speaker.session(server) as socket:
            if number < 4:
                await say(socket, type="response.create")
                await until_event(socket, "response.output_audio.delta")
            await ready.wait()
            closed = await until_event(socket, "session.closed")
            await socket.wait_closed()
            return closed, socket.close_code

    async def talk_all() -> list[tuple[dict[str, Any], int | None]]:
        ready = asyncio.Barrier(9)
        voice.turns = [Turn(usage=usage(), deltas=20, pace_seconds=0.04) for _ in range(3)]
        voice.turns.append(Turn(usage=usage(), deltas=4000, pace_seconds=0.04))
        talks = [asyncio.create_task(talk(number, ready)) for number in range(8)]
        await ready.wait()
        server.process.send_signal(signal.SIGTERM)
        return await asyncio.gather(*talks)

    ends = asyncio.run(talk_all())
    assert [(closed["reason"], code) for closed, code in ends] == [("draining", 1012)] * 8
    server.process.wait(timeout=20)
    assert len(speaker.charges()) == 4 and {row.reason for row in speaker.closed(8)} == {"draining"}
    assert not Attempt.objects.filter(tenant=speaker.tenant, state="open").exists()
    books_balance()


def test_a_killed_process_is_paid_for_and_its_sessions_closed(
    speaker: Speaker, voice: FakeRealtime, start: Start
) -> None:
    beats = {"HEARTBEAT_SECONDS": "1", "PROCESS_DEAD_SECONDS": "3"}
    victim = start(**beats)
    speaker.known_to(victim)
    budget = speaker.budget(10**12)
    voice.turns = [Turn(usage=usage(), deltas=4000, pace_seconds=0.05)]

    async def talk() -> None:
        async with speaker.connect(victim) as idle, speaker.connect(victim) as socket:
            await event(idle)
            await say(socket, type="response.create")
            for _ in range(40):
                await until_event(socket, "response.output_audio.delta")
            victim.process.kill()
            victim.process.wait()

    asyncio.run(talk())
    assert Attempt.objects.filter(tenant=speaker.tenant, state="open").count() == 2
    assert close_lost(3) == 0, "while the books are open nothing is summed up"
    start(**beats)
    until(
        lambda: not Attempt.objects.filter(tenant=speaker.tenant, state="open").exists(), seconds=45, what="the sweep"
    )
    (charge,) = speaker.charges()
    assert charge.usage_source == "local_count" and 20 <= charge.units["audio_output"] <= 90
    window = BudgetWindow.objects.filter(budget=budget).first()
    assert window is None or (window.spent_nano_usd, window.reserved_nano_usd) == (charge.cost_nano_usd, 0)
    until(lambda: close_lost(3) == 2, seconds=15, what="the sessions being closed")
    rows = speaker.closed(2)
    assert {row.reason for row in rows} == {"gateway_lost"}
    assert sum(row.cost_nano_usd for row in rows) == charge.cost_nano_usd
    assert Notification.objects.filter(tenant=speaker.tenant, event="realtime.session.closed").count() == 2
    books_balance()


def test_a_client_that_does_not_read_stops_its_provider(speaker: Speaker, voice: FakeRealtime, start: Start) -> None:
    """The provider would say 100 MiB; the process keeps a few, another session goes on, and the client is let go."""
    server = start(REALTIME_CLIENT_SECONDS="2")
    speaker.known_to(server)
    voice.turns = [
        Turn(usage=usage(), deltas=1000, delta_bytes=75_000, cancelled_usage=usage(audio_out=1)),
        Turn(usage=usage()),
    ]
    process = psutil.Process(server.process.pid)

    async def talk() -> int:
        narrow = sockets.create_connection(("127.0.0.1", server.port))
        narrow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 64 * 1024)
        deaf = await speaker.connect(server, sock=narrow, max_queue=1, ping_interval=None)
        await event(deaf)
        before = process.memory_info().rss
        await say(deaf, type="response.create")
        await asyncio.sleep(0.5)
        async with speaker.session(server) as socket:
            await say(socket, type="response.create")
            await until_event(socket, "response.done")
        most = 0
        for _ in range(30):
            most = max(most, process.memory_info().rss - before)
            await asyncio.sleep(0.1)
        deaf.transport.abort()
        return most

    grown = asyncio.run(talk())
    reasons = {row.reason for row in speaker.closed(2)}
    assert "client_slow" in reasons
    assert grown < 16 * 1024 * 1024
    speaker.charges()
    books_balance()


def test_barging_in_overtakes_what_is_queued(speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer) -> None:
    """A client that has 5 MiB of sound yet to take cancels: the provider hears of it at once. It has more to say than
    all sockets between them hold, which may be 20 MB."""
    voice.turns = [Turn(usage=usage(), deltas=1600, delta_bytes=48_000, cancelled_usage=usage(audio_out=3))]

    async def talk() -> float:
        async with speaker.session(uvicorn, max_queue=1) as socket:
            await say(socket, type="response.create")
            await asyncio.sleep(0.5)
            sent = time.monotonic()
            await say(socket, type="response.cancel")
            await until_event(socket, "response.done")
            return sent

    sent = asyncio.run(talk())
    seen = voice.connections[-1]
    assert seen.received_at[seen.types().index("response.cancel")] - sent < 1
    (charge,) = speaker.charges()
    assert charge.units["audio_output"] == 3


def test_a_client_that_sends_without_end_takes_no_memory(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    """It would send 100 MiB as fast as they are taken; a voice makes 64 KiB a second."""
    process = psutil.Process(uvicorn.process.pid)
    frame = json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 262_144})

    async def talk() -> tuple[int | None, int]:
        before, most = process.memory_info().rss, 0
        async with speaker.session(uvicorn, ping_interval=None) as socket:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(400):
                    await socket.send(frame)
                    most = max(most, process.memory_info().rss - before)
            await socket.wait_closed()
            return socket.close_code, most

    code, grown = asyncio.run(talk())
    assert code == 1008 and grown < 8 * 1024 * 1024
    assert speaker.closed()[0].reason == "policy"
