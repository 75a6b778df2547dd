"""`python -m bench`: measure the gateway and print the figures; a full run also writes them to docs/performance.md."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.document import DOCUMENT, write_figures
from bench.errors import BenchError
from bench.load import LoadGenerator, Target
from bench.measure import Bench
from bench.native import build
from bench.plan import Settings, run_all
from bench.private_gateway import private_gateway
from bench.processes import is_running, split_cores
from bench.report import render
from bench.servers import mock_provider, yardstick
from bench.workloads import HELD_STREAMS_TARGET, WORKLOADS

HOLD = "hold"


def main() -> None:
    """Run the benchmark as the command line says; exits with 1 and a message when it cannot."""
    options = _parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers we started are ended
    try:
        settings = _settings(options)
        with _bench(options) as bench:
            report = render(bench, settings, results=run_all(bench, settings))
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print("\n" + report)
    is_full_run = not (options.quick or options.only or options.gateway_url)
    if is_full_run:
        write_figures(report)
        print(f"Written to {DOCUMENT}.", file=sys.stderr)


@contextmanager
def _bench(options: argparse.Namespace) -> Iterator[Bench]:
    """Everything running: the mock provider, the yardstick, and the gateway that was asked for or one of our own."""
    cores = split_cores()
    if cores:
        os.sched_setaffinity(0, cores.others)  # our children inherit it; the measured servers are moved later
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch_folder())
        generator = LoadGenerator(build("load_generator"), scratch)
        direct = stack.enter_context(mock_provider(scratch, options.provider_port))
        relay = stack.enter_context(yardstick(direct.url, scratch))
        engines: Mapping[str, int] = {}
        if options.gateway_url:
            gateway = _given_gateway(options)
        else:
            own = stack.enter_context(private_gateway(direct.url, scratch))
            gateway, engines = own.free, own.engines
        yield Bench(
            generator=generator,
            direct=direct,
            yardstick=relay,
            gateway=gateway,
            engines=engines,
            cores=cores,
            scratch=scratch,
        )


def _given_gateway(options: argparse.Namespace) -> Target:
    if not options.gateway_pid or not is_running(options.gateway_pid):
        raise BenchError("--gateway-url needs --gateway-pid, the process whose CPU and memory are counted.")
    url = options.gateway_url.rstrip("/").removesuffix("/v1")
    return Target("gateway", url, options.gateway_pid, options.gateway_key)


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """In /var/tmp, which is on disk where /tmp may be in memory: the ledger's commits shall cost what they cost."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bursar-bench-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o711)  # PostgreSQL, started by root, runs as another user and must pass through
        yield scratch


def _settings(options: argparse.Namespace) -> Settings:
    only = options.only.split(",") if options.only else [*WORKLOADS, *([] if options.quick else [HOLD])]
    unknown = [name for name in only if name not in (*WORKLOADS, HOLD)]
    if unknown:
        raise BenchError(f"--only knows {', '.join((*WORKLOADS, HOLD))}; not {', '.join(unknown)}.")
    return Settings(
        workloads=[workload for name, workload in WORKLOADS.items() if name in only],
        rounds=options.rounds or (1 if options.quick else 5),
        seconds=options.seconds or (2.0 if options.quick else 4.0),
        held_streams=HELD_STREAMS_TARGET if HOLD in only else 0,
    )


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute: one short round, no held streams")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join((*WORKLOADS, HOLD))}, separated by commas")
    parser.add_argument("--rounds", type=int, help="rounds of everything (5)")
    parser.add_argument("--seconds", type=float, help="length of one round (4)")
    given = parser.add_argument_group(
        "another gateway", "Measure one that runs already; its provider must be the mock on --provider-port."
    )
    given.add_argument("--gateway-url", metavar="URL", help="for example http://127.0.0.1:5005")
    given.add_argument("--gateway-pid", metavar="PID", type=int, help="root of its processes")
    given.add_argument("--gateway-key", metavar="KEY", help="sent as bearer token")
    given.add_argument("--provider-port", metavar="PORT", type=int, default=0, help="of the mock (any free one)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
