"""Web processes forked from one that has imported everything: each is there in a tenth of a second, where a fresh
interpreter takes a whole one. For tests that need dozens of processes to kill.

    with Forkery(tmp_path) as forkery:
        server = forkery.serve(fault_points="mid_stream:kill")
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.engines import ROOT
from tests.live import PROMPT_END, LiveServer, free_port, until


class ForkedServer(LiveServer):
    """One of them; what tests know of `LiveServer` they may do with it."""

    def __init__(self, port: int, log: Path, *, pid: int) -> None:
        self.server = "uvicorn"
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.origin}/v1"
        self.log = log
        self.pid = pid

    @property
    def is_alive(self) -> bool:
        return psutil.pid_exists(self.pid)

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.is_alive, f"it ended: {self.log.read_text()[-3000:]}"
            return self.answers()

        until(ready, seconds=60, what="a forked server being ready")

    def wait_until_dead(self) -> None:
        until(lambda: not self.is_alive, what=f"the death of {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """Kill it with -9."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_until_dead()

    def stop(self) -> None:
        if self.is_alive:
            os.kill(self.pid, signal.SIGTERM)
            until(lambda: not self.is_alive, seconds=20, what="its end")


class Forkery:
    """The process they are forked from, and all of them."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        self._servers: list[ForkedServer] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server"],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "gateway.settings", **PROMPT_END, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.stop()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def serve(self, **config: Any) -> ForkedServer:
        """Start one with these fields of `GatewayConfig`; it is not yet ready."""
        port = free_port()
        log = self._folder / f"forked-{port}.log"
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"port": port, "log": str(log), "config": config}) + "\n")
        self._process.stdin.flush()
        self._servers.append(ForkedServer(port, log, pid=int(self._process.stdout.readline())))
        return self._servers[-1]
