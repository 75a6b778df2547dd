"""What happens once in a voice session and must not take long: refusals, barging in, ends. `bench.realtime` runs it."""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from bench.errors import BenchError

TIMES = 100
FLOODS = 10
PROVIDER_BEGINS_SECONDS = 0.5
"""After which more is queued everywhere than fits."""


async def moments(url: str, key: str) -> str:
    """Each of them so many times; a table."""
    measured: tuple[tuple[str, Callable[[], Awaitable[float]], int, str], ...] = (
        ("R13: from session.close to the summary", lambda: closing(url, key), TIMES, "p99 ≤ 250 ms"),
        ("R17: from the provider's breaking off to the summary", lambda: breaking_off(url, key), TIMES, "≤ 500 ms"),
        ("R18: a cancel behind sound that nobody takes", lambda: barging_in(url, key), FLOODS, "≤ 10 ms"),
        ("R19: a handshake with a bad key", lambda: knocking(url), TIMES, "≤ 50 ms"),
    )
    lines = ["| | times | p50 | p99 | target |", "|---|---|---|---|---|"]
    for name, once, times, target in measured:
        seconds = sorted([await once() for _ in range(times)])
        p50, p99 = statistics.median(seconds), seconds[min(times - 1, int(times * 0.99))]
        lines.append(f"| {name} | {times} | {p50 * 1000:.1f} ms | {p99 * 1000:.1f} ms | {target} |")
    return "\n".join(lines)


def session(url: str, key: str, **options: Any) -> connect:
    """A session that is about to be opened."""
    headers = {"Authorization": f"Bearer {key}"}
    return connect(url, additional_headers=headers, compression=None, proxy=None, max_size=None, **options)


async def closing(url: str, key: str) -> float:
    """A session that is closed in order."""
    async with session(url, key) as socket:
        return await _until_closed(socket, [{"type": "session.close"}])


async def breaking_off(url: str, key: str) -> float:
    """A session whose provider breaks off in the middle of a response."""
    async with session(url, key) as socket:
        frame = {"type": "input_audio_buffer.append", "audio": "AAAA", "event_id": "drop"}
        return await _until_closed(socket, [{"type": "response.create"}, frame])


async def barging_in(url: str, key: str) -> float:
    """A client that has much sound yet to take, and cancels: until the provider hears of it."""
    async with session(url, key, max_queue=1) as socket:
        await socket.send(json.dumps({"type": "response.create", "event_id": "flood"}))
        await asyncio.sleep(PROVIDER_BEGINS_SECONDS)
        sent = time.monotonic()
        await socket.send(json.dumps({"type": "response.cancel"}))
        async for text in socket:
            event = json.loads(text)
            if event["type"] == "response.done":
                return float(event["response"]["metadata"]["heard_at"]) - sent
    raise BenchError("The session ended before its response.")


async def knocking(url: str) -> float:
    """A handshake that is refused."""
    began = time.monotonic()
    try:
        async with session(url, "bsr_live_" + "x" * 43):
            raise BenchError("A bad key has opened a session.")
    except InvalidStatus:
        return time.monotonic() - began


async def _until_closed(socket: ClientConnection, frames: Sequence[dict[str, Any]]) -> float:
    await socket.recv()
    for frame in frames:
        sent = time.monotonic()
        await socket.send(json.dumps(frame))
    async for text in socket:
        if json.loads(text)["type"] == "session.closed":
            return time.monotonic() - sent
    raise BenchError("The session ended without a summary.")
