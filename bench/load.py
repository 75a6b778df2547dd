"""Runs the load generator and reads its figures."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.workloads import Workload

ANSWER_TIMEOUT_SECONDS = 150


@dataclass(frozen=True)
class Target:
    """Something that answers OpenAI's API. `url` is without path; `pid` is the root of its processes."""

    name: str
    url: str
    pid: int
    key: str | None = None


@dataclass(frozen=True)
class Shape:
    """How to ask: for so many seconds, or (None) one request per connection, started over `ramp_seconds`.

    `rate` is requests a second; None asks again as soon as an answer is complete.
    """

    connections: int
    seconds: float | None = None
    ramp_seconds: float = 0.0
    warmup_requests: int = 0
    rate: float | None = None


@dataclass(frozen=True)
class Latency:
    """Quantiles in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class LoadResult:
    """What came back. `ttfc` is the time to the first content event of a stream, or to a JSON answer's first byte."""

    ok: int
    errors: int
    failures: dict[str, int]
    codes: dict[str, int]
    elapsed_seconds: float
    rps: float
    client_cpu_seconds: float
    max_open_streams: int
    ttfc: Latency | None
    total: Latency | None
    error_sample: str


class LoadGenerator:
    """The compiled load generator; request bodies are kept in `scratch`."""

    def __init__(self, program: Path, scratch: Path) -> None:
        self._program = program
        self._scratch = scratch

    def run(self, target: Target, workload: Workload, *, shape: Shape) -> LoadResult:
        """Load the target and wait until it is over. Raises BenchError when the generator itself fails."""
        return self.finish(self.start(target, workload, shape=shape))

    def start(self, target: Target, workload: Workload, *, shape: Shape) -> subprocess.Popen[str]:
        """Begin a load; `finish` waits for it."""
        command = self._command(target, workload, shape=shape)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str]) -> LoadResult:
        """The figures of a load begun with `start`."""
        output, complaint = process.communicate()
        if process.returncode:
            raise BenchError(f"The load generator failed: {complaint.strip()}")
        return _read_result(json.loads(output))

    def _command(self, target: Target, workload: Workload, *, shape: Shape) -> list[str]:
        body = self._scratch / f"{workload.name}.json"
        body.write_text(json.dumps(workload.body))
        options: dict[str, object] = {
            "url": target.url + workload.path,
            "body": body,
            "connections": shape.connections,
            "timeout-seconds": ANSWER_TIMEOUT_SECONDS,
            "warmup": shape.warmup_requests,
            "ramp-seconds": shape.ramp_seconds,
            "min-events": workload.content_events,
        }
        if target.key:
            options["header"] = f"Authorization: Bearer {target.key}"
        if shape.seconds is not None:
            options["seconds"] = shape.seconds
        if shape.rate is not None:
            options["rate"] = shape.rate
        command = [str(self._program), *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        command += ["--stream"] if workload.content_events else []
        command += ["--once"] if shape.seconds is None else []
        return command


def _read_result(report: dict[str, Any]) -> LoadResult:
    return LoadResult(
        ok=report["ok"],
        errors=report["errors"],
        failures={name: count for name, count in report["failures"].items() if count},
        codes=report["codes"],
        elapsed_seconds=report["elapsed_seconds"],
        rps=report["rps"],
        client_cpu_seconds=report["client_cpu_seconds"],
        max_open_streams=report["max_open_streams"],
        ttfc=_read_latency(report["ttfc_ms"]),
        total=_read_latency(report["total_ms"]),
        error_sample=report["error_sample"],
    )


def _read_latency(quantiles: dict[str, float] | None) -> Latency | None:
    return Latency(**quantiles) if quantiles else None
