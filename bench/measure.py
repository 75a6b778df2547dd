"""The single measurements: one round of load with the CPU accounts around it, and thousands of streams held at once."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.load import LoadGenerator, LoadResult, Shape, Target
from bench.processes import Cores, cpu_seconds, machine_cpu_seconds, pin, resident_bytes
from bench.workloads import HELD_STREAM, Workload

HOLD_RAMP_SECONDS = 10.0
MEMORY_SAMPLE_SECONDS = 0.5
DISK_WRITES = 50
DISK_PAGE_BYTES = 8192  # PostgreSQL's


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What there is to measure. `engines`: the root process of each database server by name, counted apart."""

    generator: LoadGenerator
    direct: Target
    yardstick: Target
    gateway: Target
    engines: Mapping[str, int]
    cores: Cores | None
    scratch: Path


@dataclass(frozen=True)
class Round:
    """One round of load. `cpu_ms` is user and system milliseconds per request of: server (the one asked), provider,
    client, and each engine. `foreign_cores` is how many cores everything else on the machine kept busy meanwhile."""

    load: LoadResult
    cpu_ms: Mapping[str, float]
    foreign_cores: float


@dataclass(frozen=True)
class Hold:
    """Many slow streams at once. Memory is the gateway's, in bytes: before, and the most while they were open."""

    streams: int
    load: LoadResult
    bytes_before: int
    bytes_peak: int

    @property
    def kib_per_stream(self) -> float:
        """Memory that one open stream takes, in KiB."""
        return (self.bytes_peak - self.bytes_before) / 1024 / max(self.load.max_open_streams, 1)


def run_round(bench: Bench, target: Target, *, workload: Workload, shape: Shape) -> Round:
    """Load the target once and account for the CPU of everybody who took part."""
    pin_servers(bench)
    accounts = _accounts(bench, target)
    started = time.monotonic()
    machine_before = machine_cpu_seconds()
    before = {name: cpu_seconds(pid) for name, pid in accounts.items()}
    load = bench.generator.run(target, workload, shape=shape)
    used = {name: cpu_seconds(pid) - before[name] for name, pid in accounts.items()}
    used["client"] = load.client_cpu_seconds
    foreign = machine_cpu_seconds() - machine_before - sum(used.values())
    requests = max(load.ok + load.errors, 1)
    cpu_ms = {name: seconds * 1000 / requests for name, seconds in used.items()}
    return Round(load, cpu_ms, max(foreign, 0.0) / (time.monotonic() - started))


def hold_streams(bench: Bench, streams: int) -> Hold:
    """Open so many slow streams through the gateway, watch its memory, and wait until all have ended."""
    pin_servers(bench)
    before = peak = resident_bytes(bench.gateway.pid)
    shape = Shape(connections=streams, ramp_seconds=HOLD_RAMP_SECONDS)
    process = bench.generator.start(bench.gateway, HELD_STREAM, shape=shape)
    while process.poll() is None:
        time.sleep(MEMORY_SAMPLE_SECONDS)
        peak = max(peak, resident_bytes(bench.gateway.pid))
    return Hold(streams, bench.generator.finish(process), before, peak)


def time_disk_writes(bench: Bench) -> list[float]:
    """Milliseconds to bring one page to the disk, several times. A call waits for one such write: its reserve."""
    path = bench.scratch / "disk"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(DISK_WRITES):
            file.write(bytes(DISK_PAGE_BYTES))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    path.unlink()
    return times


def pin_servers(bench: Bench) -> None:
    """Give the gateway and the yardstick the core of their own; they are never loaded at the same time."""
    if bench.cores:
        pin(bench.yardstick.pid, bench.cores.server)
        pin(bench.gateway.pid, bench.cores.server)


def _accounts(bench: Bench, target: Target) -> dict[str, int]:
    """Who works on a request to this target: the engines only behind the gateway."""
    accounts = {"provider": bench.direct.pid}
    if target is not bench.direct:
        accounts["server"] = target.pid
    if target is bench.gateway:
        accounts.update(bench.engines)
    return accounts
