"""`python -m bench.hooks`: what being asked costs, by a hook that allows everything.

One gateway serves a tenant without hooks and one with them in turns, so that both meet the same machine. The figures
also go into docs/performance.md, unless `--quick` is given.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.document import DOCUMENT, HOOKS, write_figures
from bench.errors import BenchError
from bench.load import LoadGenerator, Shape, Target
from bench.measure import Bench, Round, run_round
from bench.native import build
from bench.plan import CPU_CONNECTIONS
from bench.private_gateway import private_gateway
from bench.processes import split_cores
from bench.report import median_of_pairs, table, verdict
from bench.servers import mock_provider, yardstick
from bench.workloads import WORKLOADS, Workload

ASKED = ("chat", "stream", "embeddings")
GROWTH_TARGET = {"chat": 1.05}
"""Of the gateway's CPU for a call, with every hook at noop."""

Rounds = defaultdict[tuple[str, str], list[Round]]
"""By workload and target."""


def main() -> None:
    """Measure, print, and write the figures down."""
    parser = argparse.ArgumentParser(prog="python -m bench.hooks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    quick = parser.parse_args().quick
    cores = split_cores()
    if cores:
        os.sched_setaffinity(0, cores.others)
    try:
        report = _measure(1, 2.0) if quick else _measure(7, 4.0)
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print("\n" + report)
    if not quick:
        write_figures(report, part=HOOKS)
        print(f"Written to {DOCUMENT}.", file=sys.stderr)


def _measure(rounds: int, seconds: float) -> str:
    measured = Rounds(list)
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bursar-bench-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        scratch.chmod(0o711)
        direct = stack.enter_context(mock_provider(scratch))
        relay = stack.enter_context(yardstick(direct.url, scratch))
        gateway = stack.enter_context(private_gateway(direct.url, scratch))
        bench = Bench(
            generator=LoadGenerator(build("load_generator"), scratch),
            direct=direct,
            yardstick=relay,
            gateway=gateway.free,
            engines=gateway.engines,
            cores=split_cores(),
            scratch=scratch,
        )
        targets = (gateway.free, gateway.hooked)
        for name in ASKED:
            for target in targets:
                _ask(bench, target, workload=WORKLOADS[name], seconds=1.0)
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
            for name in ASKED:
                for target in targets if number % 2 else targets[::-1]:  # neither is always the first
                    measured[name, target.name].append(_ask(bench, target, workload=WORKLOADS[name], seconds=seconds))
    return _table(measured)


def _ask(bench: Bench, target: Target, *, workload: Workload, seconds: float) -> Round:
    """One round; a refusal or an error would make its figures worthless."""
    shape = Shape(CPU_CONNECTIONS, seconds)
    finished = run_round(replace(bench, gateway=target), target, workload=workload, shape=shape)
    if finished.load.errors:
        raise BenchError(f"{target.name}: {finished.load.errors} errors, {finished.load.error_sample[:300]}")
    return finished


def _table(measured: Rounds) -> str:
    rows = []
    for name in ASKED:
        free, hooked = measured[name, "gateway"], measured[name, "hooked"]
        ratio = median_of_pairs(hooked, free, compare=lambda a, b: a.cpu_ms["server"] / b.cpu_ms["server"])
        target = GROWTH_TARGET.get(name)
        milliseconds = [f"{statistics.median(r.cpu_ms['server'] for r in each):.3f}" for each in (free, hooked)]
        judged = [f"≤ {target:g}", verdict(ratio <= target)] if target is not None else ["", ""]
        rows.append([WORKLOADS[name].title, *milliseconds, f"{ratio:.3f}", *judged])
    return table(["gateway's CPU", "without hooks, ms", "all at noop, ms", "ratio", "target", ""], rows)


if __name__ == "__main__":
    main()
