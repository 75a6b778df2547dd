"""`python -m bench.governed`: what hard budgets at four scopes and rate limits at three levels cost a call.

One gateway serves two tenants in turns, one without limits and one with all of them, so that both meet the same
machine. The figures also go into docs/performance.md, unless `--quick` is given.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.document import DOCUMENT, GOVERNED, write_figures
from bench.errors import BenchError
from bench.load import LoadGenerator, Shape, Target
from bench.measure import Bench, Round, run_round
from bench.native import build
from bench.plan import CPU_CONNECTIONS, THROUGHPUT_CONNECTIONS
from bench.private_gateway import PrivateGateway, private_gateway
from bench.processes import split_cores
from bench.report import added, median_of_pairs, table, verdict
from bench.servers import mock_provider, yardstick
from bench.workloads import WORKLOADS

CHAT = WORKLOADS["chat"]
RATE = 200.0
RATE_CONNECTIONS = 64
CPU_RATIO_TARGET = 7.5
ADDED_TARGETS_MS = {"p50": 2.0, "p99": 8.0}
THROUGHPUT_TARGET = 800.0
WORKERS = 2

Rounds = defaultdict[str, list[Round]]
"""By the target's name."""


def main() -> None:
    """Measure, print, and write the figures down."""
    parser = argparse.ArgumentParser(prog="python -m bench.governed", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    quick = parser.parse_args().quick
    rounds, seconds = (1, 2.0) if quick else (5, 4.0)
    cores = split_cores()
    if cores:
        os.sched_setaffinity(0, cores.others)
    try:
        sections = [_one_process(rounds, seconds), _two_processes(rounds, seconds)]
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    report = "\n\n".join(sections)
    print("\n" + report)
    if not quick:
        write_figures(report, part=GOVERNED)
        print(f"Written to {DOCUMENT}.", file=sys.stderr)


@contextmanager
def _running(workers: int) -> Iterator[tuple[Bench, PrivateGateway]]:
    # In /var/tmp, which is on disk where /tmp may be in memory: the ledger's commits shall cost what they cost.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bursar-bench-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        scratch.chmod(0o711)
        direct = stack.enter_context(mock_provider(scratch))
        relay = stack.enter_context(yardstick(direct.url, scratch))
        gateway = stack.enter_context(private_gateway(direct.url, scratch, workers=workers))
        yield (
            Bench(
                generator=LoadGenerator(build("load_generator"), scratch),
                direct=direct,
                yardstick=relay,
                gateway=gateway.free,
                engines=gateway.engines,
                cores=split_cores() if workers == 1 else None,
                scratch=scratch,
            ),
            gateway,
        )


def _one_process(rounds: int, seconds: float) -> str:
    """CPU for a call, and latency at a steady rate."""
    cpu, steady = Rounds(list), Rounds(list)
    with _running(1) as (bench, gateway):
        closed = Shape(CPU_CONNECTIONS, seconds)
        open_loop = Shape(RATE_CONNECTIONS, seconds, warmup_requests=20, rate=RATE)
        for target in (bench.yardstick, gateway.free, gateway.governed):
            _ask(bench, target, shape=Shape(CPU_CONNECTIONS, 1.0))
        for number in range(1, rounds + 1):
            _tell(f"one process, round {number} of {rounds}")
            for target in (bench.yardstick, gateway.free, gateway.governed):
                cpu[target.name].append(_ask(bench, target, shape=closed))
            for target in (bench.direct, gateway.free, gateway.governed):
                steady[target.name].append(_ask(bench, target, shape=open_loop))
    return f"### One process\n\n{_cpu_table(cpu)}\n\n{_latency_table(steady)}"


def _two_processes(rounds: int, seconds: float) -> str:
    """How many calls of one tenant, all against the same rows, two processes serve."""
    rates = Rounds(list)
    with _running(WORKERS) as (bench, gateway):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the servers have all cores here, so must their children
        shape = Shape(THROUGHPUT_CONNECTIONS, seconds)
        for target in (gateway.free, gateway.governed):
            _ask(bench, target, shape=Shape(THROUGHPUT_CONNECTIONS, 1.0))
        for number in range(1, rounds + 1):
            _tell(f"two processes, round {number} of {rounds}")
            for target in (gateway.free, gateway.governed):
                rates[target.name].append(_ask(bench, target, shape=shape))
    free, governed = (statistics.median(r.load.rps for r in rates[name]) for name in ("gateway", "governed"))
    is_met = governed >= min(THROUGHPUT_TARGET, free)
    rows = [["chat", f"{free:,.0f}", f"{governed:,.0f}", f"≥ {THROUGHPUT_TARGET:,.0f}, or as many", verdict(is_met)]]
    head = ["work", "without limits, a second", "with all, a second", "target", ""]
    return f"### One hot tenant, two processes, {THROUGHPUT_CONNECTIONS} connections\n\n{table(head, rows)}"


def _ask(bench: Bench, target: Target, *, shape: Shape) -> Round:
    """One round; a refusal or an error would make its figures worthless."""
    asked = replace(bench, gateway=target) if target.name == "governed" else bench
    finished = run_round(asked, target, workload=CHAT, shape=shape)
    if finished.load.errors:
        raise BenchError(f"{target.name}: {finished.load.errors} errors, {finished.load.error_sample[:300]}")
    return finished


def _cpu_table(rounds: Rounds) -> str:
    rows = []
    for name, title in (("gateway", "without limits"), ("governed", "4 hard budgets, 3 levels of limits")):
        ratio = median_of_pairs(
            rounds[name], rounds["yardstick"], compare=lambda a, b: a.cpu_ms["server"] / b.cpu_ms["server"]
        )
        engines = (statistics.median(r.cpu_ms[engine] for r in rounds[name]) for engine in ("Redis", "PostgreSQL"))
        milliseconds = [f"{statistics.median(r.cpu_ms['server'] for r in rounds[name]):.3f}", f"{ratio:.1f}"]
        targets = [f"≤ {CPU_RATIO_TARGET:g}", verdict(ratio <= CPU_RATIO_TARGET)]
        rows.append([title, *milliseconds, *targets, *(f"{value:.3f}" for value in engines)])
    head = ["a chat's CPU", "gateway ms", "ratio to the yardstick", "target", "", "Redis ms", "PostgreSQL ms"]
    return table(head, rows)


def _latency_table(rounds: Rounds) -> str:
    rows = []
    for name, title in (("gateway", "without limits"), ("governed", "4 hard budgets, 3 levels of limits")):
        row = [title]
        for quantile, target in ADDED_TARGETS_MS.items():
            more = added(rounds[name], rounds["direct"], pick=lambda r: r.load.total, quantile=quantile)
            row += [f"{more:.2f}", f"≤ {target:g}", verdict(more <= target)]
        rows.append(row)
    return table([f"added at {RATE:g} chats a second", "p50 ms", "target", "", "p99 ms", "target", ""], rows)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
