"""How fast are the books when there is much in them? Dashboards, lists and the settle over ten million usage rows.

    python -m bench.usage_rows                      # seeds engines of its own first: 11 GB of disk
    python -m bench.usage_rows --rows 100000        # the same, small
    python -m bench.usage_rows --database-url URL   # a database that `manage.py seed_usage` has filled

Everything is asked over HTTP from one worker, as people and clients do, warm. The settle is measured beside the same on
an empty database, batch by batch in turn, so that both have the same machine.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg

from bench.document import write_figures
from bench.errors import BenchError
from bench.servers import ROOT, uvicorn_server
from gateway.embedded import start_engines
from tenants.keys import generate_key

KEY_VARIABLE = "BENCH_API_KEY"
PASSWORD = "bench-bench-bench"
TENANT = "seed-0000"
"""The busiest."""
EMPTY = "usage_rows_empty"
ASKED = 15
BATCHES = 300
BATCH_ROWS = 20
FULL_ROWS = 10_000_000
"""From here on the figures are written into docs/performance.md."""


@dataclass(frozen=True)
class Figure:
    """One row of the report: milliseconds, and what they should be."""

    what: str
    p50: float
    worst: float
    target: float

    def __str__(self) -> str:
        verdict = "met" if self.p50 <= self.target else "not met"
        return f"| {self.what} | {self.p50:.0f} | {self.worst:.0f} | < {self.target:.0f} | {verdict} |"


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; every option explains itself."""
    parser = argparse.ArgumentParser(prog="python -m bench.usage_rows", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=FULL_ROWS)
    parser.add_argument("--database-url", help="a seeded database; its server gets an empty one beside it")
    return parser.parse_args(arguments)


@contextmanager
def engines(options: argparse.Namespace, scratch: Path) -> Iterator[dict[str, str]]:
    """The environment of a seeded platform."""
    data = scratch / "data"
    with start_engines(data, postgres=options.database_url is None) as running:
        environment = {
            "DATA_DIR": str(data),
            "DATABASE_URL": options.database_url or running.database_url or "",
            "REDIS_URL": running.redis_url or "",
        }
        if options.database_url is None:
            manage(["migrate", "--verbosity", "0"], environment)
            manage(["seed_usage", "--rows", str(options.rows)], environment)
            manage(["roll_up_usage"], environment)
        yield environment


def manage(arguments: list[str], environment: Mapping[str, str], *, stdin: str = "") -> None:
    """Run a management command; raises BenchError when it fails."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, input=stdin, text=True)
    if done.returncode:
        raise BenchError(f"manage.py {arguments[0]} failed.")


def timed(ask: Callable[[], httpx.Response]) -> tuple[float, float]:
    """Median and worst milliseconds of `ASKED` answers, after one to warm up."""
    ask().raise_for_status()
    taken = []
    for _ in range(ASKED):
        begun = time.perf_counter()
        ask().raise_for_status()
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken), max(taken)


def pages(url: str, key: str) -> Iterator[Figure]:
    """What operators and tenants look at."""
    with httpx.Client(base_url=url, follow_redirects=True, timeout=120, trust_env=False) as admin:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', admin.get("/admin/login/").text)
        assert token is not None
        login = {"username": "bench", "password": PASSWORD, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
        admin.post("/admin/login/", data=login, headers={"referer": url}).raise_for_status()
        yield Figure("operator home", *timed(lambda: admin.get("/admin/")), 300)
        usage = "/admin/billing/usagerecord/"
        today = dt.datetime.now(dt.UTC).date().isoformat()
        first_day = (dt.datetime.now(dt.UTC) - dt.timedelta(days=88)).date().isoformat()
        tenant = int(re.findall(r"/admin/tenants/tenant/(\d+)/change/", admin.get("/admin/tenants/tenant/").text)[0])
        shown: dict[str, dict[str, str | int]] = {
            "usage list, last 24 hours": {},
            "usage list, 89 days": {"created_at_from": first_day},
            "usage list, 89 days of a tenant": {"created_at_from": first_day, "tenant__id__exact": tenant},
            "usage list, 89 days of a model": {"created_at_from": first_day, "model_name": "seed-embed"},
        }
        for what, query in shown.items():
            yield Figure(what, *timed(lambda query=query: admin.get(usage, params=query)), 500)  # type: ignore[misc]
        for group in ("tenant", "key", "model"):
            query = {"first": first_day, "last": today, "group": group}
            asked = timed(lambda query=query: admin.get("/admin/usage/", params=query))  # type: ignore[misc]
            yield Figure(f"usage explorer, 89 days by {group}", *asked, 1000)
        of_one = {"first": first_day, "last": today, "group": "user", "tenant": TENANT}
        yield Figure("usage explorer, 89 days of the busiest tenant by user", *timed(
            lambda: admin.get("/admin/usage/", params=of_one)
        ), 1000)  # fmt: skip
    with httpx.Client(base_url=url, timeout=120, headers={"authorization": f"Bearer {key}"}, trust_env=False) as client:
        for group_by in ("model", "day", "project", "user", "api_key"):
            query = {"group_by": group_by, "from": first_day}
            asked = timed(lambda query=query: client.get("/v1/usage", params=query))  # type: ignore[misc]
            yield Figure(f"GET /v1/usage, 89 days of the busiest tenant by {group_by}", *asked, 300)


def batch(tenants: int) -> tuple[str, str]:
    """What is reserved, and what is then settled: `BATCH_ROWS` calls of as many tenants as there are."""
    now = dt.datetime.now(dt.UTC).isoformat()
    calls, charges = [], []
    for number in range(BATCH_ROWS):
        ident = f"{time.time_ns() // 1_000_000:012x}7{uuid.uuid4().hex[13:]}"
        tenant = 1 + number * 7 % tenants
        about = {"request_id": ident, "tenant_id": tenant, "api_key_id": tenant, "operation": "chat", "model_name": "m"}
        calls.append({
            **about, "id": ident, "deployment_id": 1, "provider_name": "p", "created_at": now, "fixed_nano_usd": 0,
            "output_pico_usd": 0, "max_output_tokens": 1, "smallest_output_tokens": 1, "may_shrink": False, "holds": [],
        })  # fmt: skip
        charges.append({
            **about, "attempt_id": ident, "started_at": now, "project_id": tenant, "user": f"user-{number}",
            "conversation": "", "agent": "", "agent_type": "", "requested_model": "m", "provider_name": "p",
            "upstream_model": "m", "stream": False, "ending": "completed", "input_tokens": 10, "output_tokens": 5,
            "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0, "units": {"input": 10, "output": 5},
            "provider_usage": {}, "usage_source": "provider_final", "price_id": 1, "cost_nano_usd": 4, "latency_ms": 9,
            "first_content_ms": None,
        })  # fmt: skip
    return json.dumps(calls), json.dumps(charges)


def settle_ratio(seeded: str, empty: str) -> tuple[float, float]:
    """Milliseconds of a settled batch over the rows, and how many times as long as on the empty database."""
    taken: dict[str, list[float]] = {seeded: [], empty: []}
    with psycopg.connect(seeded, autocommit=True) as first, psycopg.connect(empty, autocommit=True) as second:
        for _ in range(BATCHES):
            for url, connection in ((seeded, first), (empty, second)):
                calls, charges = batch(200)
                connection.execute("SELECT ledger_reserve(%s::jsonb, NULL)", [calls], prepare=True)
                begun = time.perf_counter()
                connection.execute("SELECT ledger_settle(%s::jsonb)", [charges], prepare=True)
                taken[url].append((time.perf_counter() - begun) * 1000)
    over_rows, over_nothing = (statistics.median(taken[url]) for url in (seeded, empty))
    return over_rows, over_rows / over_nothing


@contextmanager
def empty_database(seeded: str, environment: Mapping[str, str]) -> Iterator[str]:
    """A migrated database without a row, on the same server."""
    url = urlunsplit(urlsplit(seeded)._replace(path=f"/{EMPTY}"))
    with psycopg.connect(seeded, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {EMPTY}")
        connection.execute(f"CREATE DATABASE {EMPTY}")
        try:
            manage(["migrate", "--verbosity", "0"], {**environment, "DATABASE_URL": url})
            yield url
        finally:
            connection.execute(f"DROP DATABASE {EMPTY} WITH (FORCE)")


def measure(environment: dict[str, str], scratch: Path) -> tuple[list[Figure], float, float]:
    """The figures of the pages, and what a settle takes: milliseconds, and its ratio to one on an empty database."""
    seeded, key = environment["DATABASE_URL"], generate_key()
    environment |= {"DJANGO_SUPERUSER_PASSWORD": PASSWORD, KEY_VARIABLE: key}
    with psycopg.connect(seeded) as connection:  # of an earlier run
        connection.execute("DELETE FROM tenants_operator WHERE username = 'bench'")
        connection.execute("DELETE FROM tenants_apikey WHERE name = 'bench'")
    manage(["createsuperuser", "--noinput", "--username", "bench", "--email", "b@example.com"], environment)
    keys = [{"name": "bench", "secret_env": KEY_VARIABLE}]
    manage(["apply", "-"], environment, stdin=json.dumps({"tenants": [{"name": TENANT, "keys": keys}]}))
    with uvicorn_server("gateway.asgi:application", "gateway", scratch=scratch, environment=environment) as gateway:
        figures = list(pages(gateway.url, key))
    with empty_database(seeded, environment) as empty:
        return figures, *settle_ratio(seeded, empty)


def main(arguments: list[str]) -> int:
    """Measure and print the figures; those of a full run go into docs/performance.md. Returns 0 when all are met."""
    options = read_arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="bursar-bench-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL, started by root, runs as another user and must pass through
        with engines(options, Path(folder)) as environment:
            with psycopg.connect(environment["DATABASE_URL"]) as connection:
                (rows,) = connection.execute("SELECT count(*) FROM billing_usagerecord").fetchone() or (0,)
            figures, milliseconds, ratio = measure(environment, Path(folder))
    report = "\n".join([
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {rows:,} usage rows, {os.cpu_count()} cores, one worker.\n",
        "| what | p50 ms | worst ms | target | |",
        "| --- | --- | --- | --- | --- |",
        *map(str, figures),
        f"\nA settle of {BATCH_ROWS} calls takes {milliseconds:.2f} ms, {ratio:.2f} times that on an empty database.",
    ])  # fmt: skip
    print(report)
    if rows >= FULL_ROWS:
        write_figures(report, part="usage rows figures")
    return 0 if ratio <= 1.2 and all(figure.p50 <= figure.target for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
