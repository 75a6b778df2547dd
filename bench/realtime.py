"""`python -m bench.realtime`: what a voice session costs, and how much later a frame arrives through the gateway.

Each session sends a frame of 20 ms fifty times a second; every fifth is sent back: ten answers a second. The
figures are those of the gateway minus those of the same sessions straight at the provider. One way is half of the round
trip.
"""

import argparse
import asyncio
import base64
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.client import connect

from bench.errors import BenchError
from bench.private_gateway import KEY_VARIABLE, engines_in, manage
from bench.servers import free_port, running, uvicorn_server, wait_for_port
from tenants.keys import generate_key

MODEL = "bench-voice"
FRAME = base64.b64encode(b"\0" * 960).decode()
FRAMES_PER_SECOND = 50
ANSWERED_EVERY = 5
LATE_MS = 50
IDLE_SESSIONS = 200


@dataclass(frozen=True)
class Figures:
    """Round trips in milliseconds, and the CPU that the gateway took, in cores."""

    trips_ms: Sequence[float]
    cores: float

    def at(self, share: float) -> float:
        return sorted(self.trips_ms)[min(len(self.trips_ms) - 1, int(len(self.trips_ms) * share))]


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(prog="python -m bench.realtime", description=__doc__)
    options.add_argument("--seconds", type=float, default=10, help="of each measurement")
    options.add_argument("--sessions", type=int, default=50, help="at the same time, of the crowded measurements")
    asked = options.parse_args()
    try:
        print(run(asked.seconds, asked.sessions))
    except BenchError as error:
        sys.exit(f"bench: {error}")


def run(seconds: float, sessions: int) -> str:
    """All measurements against a gateway of our own; the table as text."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        port, key = free_port(), generate_key()
        provider = [sys.executable, "-m", "bench.realtime_provider", str(port)]
        with running(provider, log=scratch / "provider.log"), engines_in(scratch / "data") as engines:
            wait_for_port(port)
            environment = {
                "DATA_DIR": str(scratch / "data"), "DATABASE_URL": engines.database_url or "",
                "REDIS_URL": engines.redis_url or "", KEY_VARIABLE: key,
            }  # fmt: skip
            manage(["migrate", "--verbosity", "0"], environment)
            manage(["apply", "-"], environment, stdin=json.dumps(configuration(port)))
            with uvicorn_server("gateway.asgi:application", "gateway", scratch=scratch, environment=environment) as at:
                gateway = f"{at.url.replace('http', 'ws')}/v1/realtime?model={MODEL}"
                direct = f"ws://127.0.0.1:{port}/v1/realtime?model={MODEL}"
                return report(gateway, direct, key=key, pid=at.pid, seconds=seconds, sessions=sessions)


def configuration(port: int) -> dict[str, Any]:
    """One voice model at the provider, one tenant with a hard budget that no run reaches."""
    provider = {
        "name": "bench", "kind": "openai_compatible", "base_url": f"http://127.0.0.1:{port}/v1", "api_key": "any",
        "allow_private_network": True,
    }  # fmt: skip
    model = {
        "name": MODEL, "capabilities": ["realtime"], "prices": {"input": "4", "output": "24", "audio_output": "64"},
        "deployments": [{"provider": "bench", "upstream_model": MODEL}],
    }  # fmt: skip
    budget = {"scope": "tenant", "period": "month", "limit_usd": "1000000", "hard": True}
    keys = [{"name": "bench", "secret_env": KEY_VARIABLE}]
    tenant = {"name": "bench", "approved": [MODEL], "keys": keys, "budgets": [budget]}
    return {"providers": [provider], "models": [model], "tenants": [tenant]}


def report(gateway: str, direct: str, *, key: str, pid: int, seconds: float, sessions: int) -> str:
    """Measure both, alone and in a crowd."""
    lines = [
        "| sessions | frames a second | added one way, p50 | p99 | later than 50 ms | CPU |",
        "|---|---|---|---|---|---|",
    ]
    idle = asyncio.run(idle_kib(gateway, IDLE_SESSIONS, key=key, pid=pid))  # first: what is free already is not seen
    for count in (1, sessions):
        through = asyncio.run(measure(gateway, count, key=key, pid=pid, seconds=seconds))
        straight = asyncio.run(measure(direct, count, key=key, pid=pid, seconds=seconds))
        added = [(through.at(share) - straight.at(share)) / 2 for share in (0.5, 0.99)]
        late = sum(trip > 2 * LATE_MS for trip in through.trips_ms)
        cells = (count, count * FRAMES_PER_SECOND, *(f"{ms:.2f} ms" for ms in added), late, f"{through.cores:.0%}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", f"{idle:.0f} KiB for each of {IDLE_SESSIONS} idle sessions."]
    return "\n".join(lines)


async def measure(url: str, count: int, *, key: str, pid: int, seconds: float) -> Figures:
    """So many sessions for so long."""
    process = psutil.Process(pid)
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    found = await asyncio.gather(*(converse(url, key=key, seconds=seconds) for _ in range(count)))
    cores = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    trips = [trip for one in found for trip in one]
    if not trips:
        raise BenchError("No frame came back.")
    return Figures(trips, cores)


async def converse(url: str, *, key: str, seconds: float) -> list[float]:
    """One session; the round trips of the frames that were sent back."""
    sent: dict[str, float] = {}
    trips: list[float] = []
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(url, additional_headers=headers, compression=None, proxy=None, open_timeout=60) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "response.create"}))

        async def listen() -> None:
            async for text in socket:
                event = json.loads(text)
                if (at := sent.pop(str(event.get("event_id")), None)) is not None:
                    trips.append((time.perf_counter() - at) * 1000)

        listening = asyncio.create_task(listen())
        ends, number, due = time.perf_counter() + seconds, 0, time.perf_counter()
        while time.perf_counter() < ends:
            event = {"type": "input_audio_buffer.append", "audio": FRAME}
            if number % ANSWERED_EVERY == 0:
                event["event_id"] = f"f{number}"
                sent[f"f{number}"] = time.perf_counter()
            await socket.send(json.dumps(event))
            number += 1
            due += 1 / FRAMES_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        listening.cancel()
    return trips


async def idle_kib(url: str, count: int, *, key: str, pid: int) -> float:
    """How much memory a session takes that says nothing."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    headers = {"Authorization": f"Bearer {key}"}
    sockets = [await connect(url, additional_headers=headers, compression=None, proxy=None) for _ in range(count)]
    await asyncio.sleep(1)
    grown = process.memory_info().rss - before
    for socket in sockets:
        await socket.close()
    return grown / 1024 / count


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    main()
