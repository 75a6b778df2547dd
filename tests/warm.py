"""Processes that need not import the world: forked from one that has, for half the CPU of a fresh start.

What they import of the platform, and with which settings, is their own.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from tests.engines import ROOT

COLD = {"PYTHONTZPATH"}
"""Read by what is imported already."""


def start(
    module: str, *arguments: str, environment: dict[str, str], log: Path
) -> WarmProcess | subprocess.Popen[bytes]:
    """Start `python -m MODULE ARGUMENTS` in this environment; both its outputs go to the end of the log."""
    if environment.keys() & COLD:
        with log.open("ab") as output:
            command = [sys.executable, "-m", module, *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    order = {"module": module, "arguments": arguments, "environment": environment, "log": str(log)}
    return WarmProcess(_kiln().ask(order))


class WarmProcess:
    """What tests use of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = _kiln().ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + timeout if timeout is not None else None
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing for one that has ended: its id may be another's."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Kiln:
    """The process they are forked from."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.communicate)

    def ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._asking:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


Process = WarmProcess | subprocess.Popen[bytes]


@cache
def _kiln() -> _Kiln:
    return _Kiln()
