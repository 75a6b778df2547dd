"""Turns the rounds into tables: medians, ratios to the yardstick, and whether the target is met."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence

from bench.load import Latency
from bench.measure import Bench, Round
from bench.plan import CPU_CONNECTIONS, LATENCY_CONNECTIONS, THROUGHPUT_CONNECTIONS, Results, Settings
from bench.workloads import (
    ADDED_LATENCY_TARGET_MS,
    CPU_RATIO_TARGETS,
    HELD_STREAMS_TARGET,
    KIB_PER_HELD_STREAM_TARGET,
    Workload,
)

NOTHING = "-"
MIB = 1024 * 1024


def render(bench: Bench, settings: Settings, *, results: Results) -> str:
    """The whole report as Markdown, with columns aligned so that a terminal shows it as well."""
    sections = [_conditions(bench, settings, results=results)]
    if settings.workloads:
        sections += [
            f"### CPU per request, {CPU_CONNECTIONS} connections\n\n" + _cpu_table(bench, settings, results=results),
            "### Added latency, one connection\n\n" + _latency_table(bench, settings, results=results),
            f"### Requests per second, {THROUGHPUT_CONNECTIONS} connections\n\n"
            + _rate_table(bench, settings, results=results),
        ]
    sections.append("### Memory and held streams\n\n" + _memory_table(bench, results))
    sections.append(_complaints(results))
    return "\n\n".join(filter(None, sections)) + "\n"


def _conditions(bench: Bench, settings: Settings, *, results: Results) -> str:
    cores = "everything on one core"
    if bench.cores:
        cores = f"the gateway alone on one of {len(bench.cores.server | bench.cores.others)} cores"
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    rounds = f"medians of {settings.rounds} rounds" if settings.rounds > 1 else "one round"
    text = f"{when}, {_processor()}, Python {platform.python_version()}, {cores}; {rounds} of {settings.seconds:g} s."
    foreign = [r.foreign_cores for rounds in results.rounds.values() for r in rounds]
    if foreign:
        text += f" Programs that have no part in it kept {statistics.median(foreign):.2f} cores busy meanwhile."
    if len(results.disk_ms) > 1:
        p50, p99 = (statistics.quantiles(results.disk_ms, n=100)[percent - 1] for percent in (50, 99))
        text += f" A write reached the disk in {p50:.2f} ms (p99 {p99:.1f})."
    return text


def _cpu_table(bench: Bench, settings: Settings, *, results: Results) -> str:
    head = ["work", "gateway ms", "yardstick ms", "ratio", "target", "", *(f"{name} ms" for name in bench.engines)]
    head += ["direct call ms"]
    rows = []
    for workload in settings.workloads:
        direct, yardstick, gateway = (
            results.of(workload, CPU_CONNECTIONS, target=target)
            for target in (bench.direct, bench.yardstick, bench.gateway)
        )
        ratio = median_of_pairs(gateway, yardstick, compare=lambda a, b: a.cpu_ms["server"] / b.cpu_ms["server"])
        target = CPU_RATIO_TARGETS[workload.name]
        rows.append(
            [
                workload.title,
                _cpu(gateway, "server"),
                _cpu(yardstick, "server"),
                f"{ratio:.1f}",
                f"≤ {target:g}",
                verdict(ratio <= target),
                *(_cpu(gateway, name) for name in bench.engines),
                f"{statistics.median(r.cpu_ms['client'] + r.cpu_ms['provider'] for r in direct):.3f}",
            ]
        )
    return table(head, rows)


def _latency_table(bench: Bench, settings: Settings, *, results: Results) -> str:
    head = ["work, until", "direct p50 ms", "p99", "gateway p50", "p99", "added p50", "added p99", "target for p50", ""]
    rows = []
    for workload in settings.workloads:
        direct, gateway = (
            results.of(workload, LATENCY_CONNECTIONS, target=target) for target in (bench.direct, bench.gateway)
        )
        for until, pick in _moments(workload):
            more = [added(gateway, direct, pick=pick, quantile=quantile) for quantile in ("p50", "p99")]
            target = [f"≤ {ADDED_LATENCY_TARGET_MS:g}", verdict(more[0] <= ADDED_LATENCY_TARGET_MS)]
            measured = [_quantile(rounds, pick, quantile=q) for rounds in (direct, gateway) for q in ("p50", "p99")]
            row = [f"{workload.title}, {until}", *(f"{value:.2f}" for value in (*measured, *more)), *target]
            rows.append(row)
    return table(head, rows)


def _rate_table(bench: Bench, settings: Settings, *, results: Results) -> str:
    rows = []
    for workload in settings.workloads:
        by_target = [
            results.of(workload, THROUGHPUT_CONNECTIONS, target=target)
            for target in (bench.gateway, bench.yardstick, bench.direct)
        ]
        rates = [f"{statistics.median(r.load.rps for r in rounds):,.0f}" for rounds in by_target]
        errors = sum(r.load.errors for r in by_target[0])
        rows.append([workload.title, rates[0], str(errors), rates[1], rates[2]])
    return table(["work", "gateway", "its errors", "yardstick", "direct"], rows)


def _memory_table(bench: Bench, results: Results) -> str:
    served = results.requests_to(bench.gateway)
    rows = [
        ["gateway, idle", f"{results.idle_bytes / MIB:.0f} MiB", NOTHING, ""],
        [f"gateway, after {served:,} requests", f"{results.loaded_bytes / MIB:.0f} MiB", NOTHING, ""],
    ]
    hold = results.hold
    if hold:
        all_finished = hold.load.ok == hold.streams >= HELD_STREAMS_TARGET
        finished = f"{hold.load.ok:,} of {hold.streams:,}"
        rows.append(["slow streams at once, finished", finished, f"all {HELD_STREAMS_TARGET:,}", verdict(all_finished)])
        size, target = f"{hold.kib_per_stream:.0f} KiB", f"≤ {KIB_PER_HELD_STREAM_TARGET:g} KiB"
        is_small = hold.kib_per_stream <= KIB_PER_HELD_STREAM_TARGET
        rows.append(["memory per held stream", size, target, verdict(is_small)])
    return table(["what", "measured", "target", ""], rows)


def _complaints(results: Results) -> str:
    """What went wrong, so that no figure above is taken for a good one that is not."""
    lines = []
    for (workload, connections, target), rounds in results.rounds.items():
        failed = [r.load for r in rounds if r.load.errors]
        if failed:
            count = sum(load.errors for load in failed)
            where = f"{target}, {workload}, {connections} connections"
            lines.append(f"- {where}: {count} errors, {failed[0].failures} `{failed[0].error_sample[:200]}`")
    if results.hold and results.hold.load.errors:
        lines.append(f"- held streams: {results.hold.load.failures} `{results.hold.load.error_sample[:200]}`")
    return "\n".join(["Errors:", "", *lines]) if lines else ""


def _moments(workload: Workload) -> list[tuple[str, Callable[[Round], Latency | None]]]:
    whole: tuple[str, Callable[[Round], Latency | None]] = ("end", lambda r: r.load.total)
    return [("first chunk", lambda r: r.load.ttfc), whole] if workload.content_events else [whole]


def _quantile(rounds: Sequence[Round], pick: Callable[[Round], Latency | None], *, quantile: str) -> float:
    return statistics.median(_of(pick(r), quantile) for r in rounds)


def added(
    gateway: Sequence[Round], direct: Sequence[Round], *, pick: Callable[[Round], Latency | None], quantile: str
) -> float:
    """How much later the gateway's quantile is than the direct call's, in milliseconds."""
    return median_of_pairs(gateway, direct, compare=lambda a, b: _of(pick(a), quantile) - _of(pick(b), quantile))


def _of(latency: Latency | None, quantile: str) -> float:
    """A round without one good answer has no latency: not a number, which meets no target."""
    return float(getattr(latency, quantile)) if latency else float("nan")


def _cpu(rounds: Sequence[Round], who: str) -> str:
    return f"{statistics.median(r.cpu_ms[who] for r in rounds):.3f}"


def median_of_pairs(
    ours: Sequence[Round], theirs: Sequence[Round], *, compare: Callable[[Round, Round], float]
) -> float:
    """Compare rounds that ran one after the other, then take the median: drift between rounds cancels out."""
    return statistics.median(compare(a, b) for a, b in zip(ours, theirs, strict=True))


def verdict(is_met: bool) -> str:
    """How a target's column says it."""
    return "met" if is_met else "not met"


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    lines.insert(1, ["-" * max(width, 3) for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
