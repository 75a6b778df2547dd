"""`python -m bench.realtime`: what a voice session costs, and how much later a frame arrives through the gateway.

Each session sends a frame of 20 ms fifty times a second; every fifth is sent back: ten answers a second. The
figures are those of the gateway minus those of the same sessions straight at the provider. One way is half of the round
trip. The crowd is measured again while calls on the same process wait for a database that takes a second (R3), and
`bench.realtime_moments` measures what happens once in a session. `--soak MINUTES` adds how memory grows.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from websockets.asyncio.client import connect

from bench.errors import BenchError
from bench.private_gateway import KEY_VARIABLE, engines_in, manage
from bench.realtime_moments import moments
from bench.servers import free_port, running, uvicorn_server, wait_for_port
from tenants.keys import generate_key

MODEL = "bench-voice"
FRAME = base64.b64encode(b"\0" * 960).decode()
FRAMES_PER_SECOND = 50
ANSWERED_EVERY = 5
LATE_MS = 50
IDLE_SESSIONS = 200
SOAK_LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Figures:
    """Round trips in milliseconds, and the CPU that the gateway took, in cores."""

    trips_ms: Sequence[float]
    cores: float

    def at(self, share: float) -> float:
        return sorted(self.trips_ms)[min(len(self.trips_ms) - 1, int(len(self.trips_ms) * share))]


@dataclass(frozen=True)
class Plan:
    """How long each measurement lasts, with how many sessions the crowd; minutes of the soak, 0 for none."""

    seconds: float
    sessions: int
    soak_minutes: float


@dataclass(frozen=True)
class Place:
    """Where sessions are opened, with what, and what serves them."""

    gateway: str
    direct: str
    origin: str
    key: str
    pid: int
    database_url: str


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(prog="python -m bench.realtime", description=__doc__)
    options.add_argument("--seconds", type=float, default=10, help="of each measurement")
    options.add_argument("--soak", type=float, default=0, help="minutes with the crowd in which memory is watched")
    options.add_argument("--sessions", type=int, default=50, help="at the same time, of the crowded measurements")
    asked = options.parse_args()
    try:
        print(run(Plan(asked.seconds, asked.sessions, asked.soak)))
    except BenchError as error:
        sys.exit(f"bench: {error}")


def run(plan: Plan) -> str:
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
                origin = at.url.removesuffix("/")
                place = Place(
                    gateway=f"{origin.replace('http', 'ws')}/v1/realtime?model={MODEL}",
                    direct=f"ws://127.0.0.1:{port}/v1/realtime?model={MODEL}",
                    origin=origin, key=key, pid=at.pid, database_url=engines.database_url or "",
                )  # fmt: skip
                return f"{report(place, plan)}\n\n{asyncio.run(moments(place.gateway, key))}"


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


def report(place: Place, plan: Plan) -> str:
    """Measure both, alone and in a crowd, and the crowd beside a slow database."""
    lines = [
        "| sessions | frames a second | added one way, p50 | p99 | later than 50 ms | CPU | sessions a core at 80 % |",
        "|---|---|---|---|---|---|---|",
    ]
    idle, active = asyncio.run(memory_kib(place, plan.sessions))  # first: what is free already is not seen
    for count in (1, plan.sessions):
        lines.append(_line(str(count), count, figures=_both(place, count, seconds=plan.seconds)))
    with slow_database(place):
        figures = _both(place, plan.sessions, seconds=plan.seconds)
    lines.append(_line(f"{plan.sessions}, database slow", plan.sessions, figures=figures))
    lines += ["", f"{idle:.0f} KiB for each of {IDLE_SESSIONS} idle sessions, {active:.0f} for an active one."]
    if plan.soak_minutes:
        lines.append(soak(place, plan))
    return "\n".join(lines)


def _both(place: Place, count: int, *, seconds: float) -> tuple[Figures, Figures]:
    """Through the gateway, and straight at the provider."""
    return (
        asyncio.run(measure(place.gateway, count, place=place, seconds=seconds)),
        asyncio.run(measure(place.direct, count, place=place, seconds=seconds)),
    )


def _line(name: str, count: int, *, figures: tuple[Figures, Figures]) -> str:
    through, straight = figures
    added = [(through.at(share) - straight.at(share)) / 2 for share in (0.5, 0.99)]
    late = sum(trip > 2 * LATE_MS for trip in through.trips_ms)
    per_core = int(0.8 * count / through.cores) if through.cores else 0
    ms = (f"{figure:.2f} ms" for figure in added)
    cells = (name, count * FRAMES_PER_SECOND, *ms, late, f"{through.cores:.0%}", per_core)
    return f"| {' | '.join(map(str, cells))} |"


@contextmanager
def slow_database(place: Place) -> Iterator[None]:
    """Have a call of the process wait a second for the database, again and again."""
    done = threading.Event()

    def hold() -> None:
        with psycopg.connect(place.database_url, autocommit=True) as connection:
            while not done.is_set():
                with connection.transaction():
                    connection.execute("LOCK TABLE gateway_realtimesession IN ACCESS EXCLUSIVE MODE")
                    done.wait(1)
                done.wait(0.05)

    def ask() -> None:
        headers = {"authorization": f"Bearer {place.key}"}
        with httpx.Client(trust_env=False, timeout=30, headers=headers) as client:
            while not done.is_set():
                client.get(f"{place.origin}/v1/realtime/sessions")

    threads = [threading.Thread(target=work) for work in (hold, ask)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def soak(place: Place, plan: Plan) -> str:
    """How memory grows while the crowd talks: the slope over the last two thirds of it."""
    process = psutil.Process(place.pid)
    seen: list[tuple[float, int]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SOAK_LOOK_SECONDS):
            seen.append((time.monotonic(), process.memory_info().rss))

    watching = threading.Thread(target=watch)
    watching.start()
    asyncio.run(measure(place.gateway, plan.sessions, place=place, seconds=plan.soak_minutes * 60))
    done.set()
    watching.join()
    later = seen[len(seen) // 3 :]
    if len(later) < 2:
        raise BenchError("The soak was too short to see anything.")
    slope = statistics.linear_regression(*zip(*later, strict=True)).slope
    per_hour = slope * 3600 / 2**20 * 100 / plan.sessions
    return f"Over {plan.soak_minutes:g} minutes memory grew by {per_hour:.2f} MiB an hour for each hundred sessions."


async def measure(url: str, count: int, *, place: Place, seconds: float) -> Figures:
    """So many sessions for so long."""
    process = psutil.Process(place.pid)
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    found = await asyncio.gather(*(converse(url, key=place.key, seconds=seconds) for _ in range(count)))
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


async def memory_kib(place: Place, sessions: int) -> tuple[float, float]:
    """How much memory a session takes that says nothing, and beside those one of so many that talk."""
    process = psutil.Process(place.pid)
    before = process.memory_info().rss
    opening = {"additional_headers": {"Authorization": f"Bearer {place.key}"}, "compression": None, "proxy": None}
    sockets = [await connect(place.gateway, **opening) for _ in range(IDLE_SESSIONS)]
    await asyncio.sleep(1)
    silent = process.memory_info().rss
    await measure(place.gateway, sessions, place=place, seconds=2)
    talking = process.memory_info().rss
    for socket in sockets:
        await socket.close()
    return (silent - before) / 1024 / IDLE_SESSIONS, (talking - silent) / 1024 / sessions


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    main()
