"""Compiles the mock provider and the load generator: C, so that they cost far less than what they measure."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.errors import BenchError

FOLDER = Path(__file__).parent
BUILD_FOLDER = FOLDER / "build"
SOURCES = {
    "mock_provider": ("mock_provider.c", "mock_connection.c", "mock_request.c", "mock_answers.c", "http_wire.c"),
    "load_generator": ("load_generator.c", "load_options.c", "load_answer.c", "load_report.c", "http_wire.c"),
}
COMPILE_TIMEOUT_SECONDS = 120


def find_compiler() -> str | None:
    """The C compiler: $CC, or the first of cc, gcc and clang on the path; None when there is none."""
    candidates = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


def build(program: str) -> Path:
    """Compile `program` unless it is newer than its sources, and return the path to run.

    Raises BenchError without Linux or a C compiler, or when compiling fails.
    """
    executable = BUILD_FOLDER / program
    if executable.exists() and executable.stat().st_mtime >= _newest_source_time():
        return executable
    if sys.platform != "linux":
        raise BenchError("The benchmark runs on Linux only: it needs epoll and /proc.")
    compiler = find_compiler()
    if compiler is None:
        raise BenchError("The benchmark needs a C compiler: install gcc or clang, or name one in CC.")
    BUILD_FOLDER.mkdir(exist_ok=True)
    # Compiled aside and moved: two test processes may build at the same time.
    unfinished = BUILD_FOLDER / f"{program}.{os.getpid()}"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(unfinished), *SOURCES[program]]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_SECONDS)
    if done.returncode:
        raise BenchError(f"{compiler} could not compile {program}:\n{done.stderr}")
    unfinished.replace(executable)
    return executable


def _newest_source_time() -> float:
    return max(path.stat().st_mtime for pattern in ("*.c", "*.h") for path in FOLDER.glob(pattern))
