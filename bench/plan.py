"""The order of a run: the direct call, the yardstick and the gateway take turns, round by round, so that a machine that
grows slower meanwhile slows all of them, and the ratios stand.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.check import check_answer
from bench.load import Shape, Target
from bench.measure import HOLD_RAMP_SECONDS, Bench, Hold, Round, hold_streams, run_round, time_disk_writes
from bench.processes import resident_bytes
from bench.workloads import HELD_STREAM_SECONDS, Workload

CPU_CONNECTIONS = 8
LATENCY_CONNECTIONS = 1
THROUGHPUT_CONNECTIONS = 32
DIRECT_SECONDS = 1.0  # enough for a direct round's rate and CPU, which hardly vary
WARMUP_SECONDS = 1.0
WARMUP_REQUESTS = 2
SETTLE_SECONDS = 2.0  # for what a gateway finishes after the answer, before its memory is read


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much to measure; `held_streams` 0 leaves that part out."""

    workloads: Sequence[Workload]
    rounds: int
    seconds: float
    held_streams: int


@dataclass
class Results:
    """All that was measured. Memory is of the gateway's processes; `rounds` is by workload, connections and target;
    `disk_ms` is how long a write took to reach the disk, from all rounds."""

    rounds: defaultdict[tuple[str, int, str], list[Round]] = field(default_factory=lambda: defaultdict(list))
    disk_ms: list[float] = field(default_factory=list)
    idle_bytes: int = 0
    loaded_bytes: int = 0
    hold: Hold | None = None

    def of(self, workload: Workload, connections: int, *, target: Target) -> list[Round]:
        """The rounds of one target, in the order they ran."""
        return self.rounds[workload.name, connections, target.name]

    def requests_to(self, target: Target) -> int:
        """Good answers of this target in all rounds together."""
        return sum(r.load.ok for (_, _, name), rounds in self.rounds.items() if name == target.name for r in rounds)


@dataclass(frozen=True)
class Step:
    """One piece of the run, and about how long it takes."""

    title: str
    seconds: float
    run: Callable[[], object]


def run_all(bench: Bench, settings: Settings) -> Results:
    """Measure everything, telling progress and the time left on standard error."""
    results = Results()
    steps = list(_steps(bench, settings, results=results))
    for number, step in enumerate(steps):
        minutes, seconds = divmod(round(sum(later.seconds for later in steps[number:])), 60)
        progress = f"[{number + 1:>3} of {len(steps)}, {minutes}:{seconds:02} left]"
        print(progress, step.title, file=sys.stderr, flush=True)
        step.run()
    return results


def _steps(bench: Bench, settings: Settings, *, results: Results) -> Iterator[Step]:
    for workload in settings.workloads:
        for target in (bench.yardstick, bench.gateway):
            title = f"{workload.title}: check the answer of the {target.name}"
            yield Step(title, 0.1, partial(check_answer, target, bench.direct, workload=workload))
    yield Step("memory, idle", SETTLE_SECONDS, partial(_read_idle_memory, bench, results))
    for workload in settings.workloads:
        for target in (bench.yardstick, bench.gateway):
            shape = Shape(CPU_CONNECTIONS, WARMUP_SECONDS)
            title = f"{workload.title}: warm up the {target.name}"
            yield Step(title, WARMUP_SECONDS, partial(run_round, bench, target, workload=workload, shape=shape))
    for number in range(1, settings.rounds + 1):
        yield Step(f"disk, round {number}", 0.1, lambda: results.disk_ms.extend(time_disk_writes(bench)))
        for workload in settings.workloads:
            for target, shape in _turns(bench, settings.seconds):
                title = f"{workload.title}: {target.name}, round {number}, connections {shape.connections}"
                run = partial(_record_round, bench, results, target=target, workload=workload, shape=shape)
                yield Step(title, shape.seconds or 0, run)
    yield Step("memory, after load", SETTLE_SECONDS, partial(_read_loaded_memory, bench, results))
    if settings.held_streams:
        run = partial(_hold, bench, results, streams=settings.held_streams)
        yield Step(f"hold {settings.held_streams} streams", HOLD_RAMP_SECONDS + HELD_STREAM_SECONDS, run)


def _turns(bench: Bench, seconds: float) -> Iterator[tuple[Target, Shape]]:
    for connections in (CPU_CONNECTIONS, THROUGHPUT_CONNECTIONS):
        yield bench.direct, Shape(connections, min(DIRECT_SECONDS, seconds))
        yield bench.yardstick, Shape(connections, seconds)
        yield bench.gateway, Shape(connections, seconds)
    for target in (bench.direct, bench.gateway):
        yield target, Shape(LATENCY_CONNECTIONS, seconds / 2, warmup_requests=WARMUP_REQUESTS)


def _record_round(bench: Bench, results: Results, *, target: Target, workload: Workload, shape: Shape) -> None:
    finished = run_round(bench, target, workload=workload, shape=shape)
    results.of(workload, shape.connections, target=target).append(finished)


def _read_idle_memory(bench: Bench, results: Results) -> None:
    time.sleep(SETTLE_SECONDS)
    results.idle_bytes = resident_bytes(bench.gateway.pid)


def _read_loaded_memory(bench: Bench, results: Results) -> None:
    time.sleep(SETTLE_SECONDS)
    results.loaded_bytes = resident_bytes(bench.gateway.pid)


def _hold(bench: Bench, results: Results, *, streams: int) -> None:
    results.hold = hold_streams(bench, streams)
