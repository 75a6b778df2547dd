"""`python -m bench.audit`: what audit events cost a call.

Two gateways, each with engines of its own, serve the same load in turns: one writes audit events, one does not. Says
how many events were written, and what that took of throughput and of CPU, the database's included.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import psycopg

from bench.errors import BenchError
from bench.load import LoadGenerator, Shape
from bench.measure import Bench, Round, run_round
from bench.native import build
from bench.plan import CPU_CONNECTIONS
from bench.private_gateway import PrivateGateway, private_gateway
from bench.processes import split_cores
from bench.report import table, verdict
from bench.servers import mock_provider, yardstick
from bench.workloads import WORKLOADS

CHAT = WORKLOADS["chat"]
MOST_COST = 0.05
ROUND_SECONDS = 4.0
SINKS = {"without": "noop", "with": "database"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of four seconds for each of the two")
    rounds = parser.parse_args().rounds
    cores = split_cores()
    if cores:
        os.sched_setaffinity(0, cores.others)
    try:
        print(_measured(rounds))
    except BenchError as error:
        sys.exit(f"bench: {error}")


def _measured(rounds: int) -> str:
    found: defaultdict[str, list[Round]] = defaultdict(list)
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bursar-bench-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        scratch.chmod(0o711)
        direct = stack.enter_context(mock_provider(scratch))
        relay = stack.enter_context(yardstick(direct.url, scratch))
        gateways: dict[str, PrivateGateway] = {}
        for name, sinks in SINKS.items():
            room = scratch / name
            room.mkdir(mode=0o711)
            gateways[name] = stack.enter_context(private_gateway(direct.url, room, settings={"AUDIT_SINKS": sinks}))
        generator = LoadGenerator(build("load_generator"), scratch)
        for number in range(rounds + 1):
            for name, gateway in gateways.items():
                bench = Bench(
                    generator=generator, direct=direct, yardstick=relay, gateway=gateway.free, engines=gateway.engines,
                    cores=split_cores(), scratch=scratch,
                )  # fmt: skip
                seconds = ROUND_SECONDS if number else 1.0
                one = run_round(bench, gateway.free, workload=CHAT, shape=Shape(CPU_CONNECTIONS, seconds))
                if one.load.errors:
                    raise BenchError(f"{name}: {one.load.errors} errors, {one.load.error_sample[:300]}")
                if number:
                    found[name].append(one)
                print(f"round {number}, {name}: {one.load.rps:,.0f} calls a second", file=sys.stderr)
        events = _events(gateways["with"].database_url)
    return _report(found, events)


def _events(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT coalesce(sum(sequence), 0) FROM tenants_auditchain").fetchone()
    return int(row[0]) if row else 0


def _report(found: dict[str, list[Round]], events: int) -> str:
    """Ratios of pairs of neighbouring rounds: both met the same machine."""
    pairs = list(zip(found["with"], found["without"], strict=True))
    slower = 1 - statistics.median(a.load.rps / b.load.rps for a, b in pairs)
    rows = [
        [
            name,
            *(f"{statistics.median(r.cpu_ms[who] for r in found[name]):.4f}" for who in ("server", "PostgreSQL")),
            f"{statistics.median(r.load.rps for r in found[name]):,.0f}",
        ]
        for name in SINKS
    ]
    head = ["audit events", "server, CPU ms a call", "PostgreSQL, CPU ms a call", "calls a second"]
    met = verdict(slower <= MOST_COST)
    return f"{table(head, rows)}\n\n{events:,} events; throughput {-slower:+.1%}, at most -{MOST_COST:.0%}: {met}"


if __name__ == "__main__":
    main()
