"""A real server process of the platform for tests that go through its public door."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson

from tests import warm

COMMANDS = {
    "uvicorn": [
        "uvicorn",
        "gateway.asgi:application",
        "--http",
        "httptools",
        "--loop",
        "uvloop",
        "--no-access-log",
        "--no-proxy-headers",
        "--ws-per-message-deflate",
        "false",
    ],
    "daphne": ["daphne", "gateway.asgi:application", "-b", "127.0.0.1"],
}
CHANGES_SEEN_SECONDS = 2.0
"""How long any process may take to see a change of configuration."""


def until(condition: Callable[[], Any], *, seconds: float = 30.0, what: str = "the condition") -> Any:
    """Wait for a condition to become true and return what it returned; fails loudly when it never does."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


NO_SWEEPS = {"HEARTBEAT_SECONDS": "3600", "PROCESS_DEAD_SECONDS": "7200"}
"""A server of the whole session must not end what another test leaves open for its own sweep to find."""

SETTINGS = {"DJANGO_SETTINGS_MODULE": "gateway.settings"}
PROMPT_END = {"SHUTDOWN_NOTICE_SECONDS": "0", "SHUTDOWN_SECONDS": "5"}


class LiveServer:
    """One web process on a free port, over the worker's own database and Redis."""

    def __init__(self, server: str, folder: Path, **environment: str) -> None:
        self.server = server
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.origin}/v1"
        self.log = folder / f"{server}-{self.port}.log"
        port_option = "--port" if server == "uvicorn" else "-p"
        module, *arguments = COMMANDS[server]
        self.process = warm.start(
            module,
            *arguments,
            port_option,
            str(self.port),
            environment={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "gateway.settings",
                **NO_SWEEPS,
                **PROMPT_END,
                **environment,
            },
            log=self.log,
        )
        until(self._ready, seconds=60, what=f"{server} being ready")

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"{self.server} ended: {self.log.read_text()[-3000:]}"
        return self.answers()

    def answers(self) -> bool:
        """Whether it says that it is ready."""
        try:
            return self.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str) -> httpx.Response:
        """Ask for what needs no key."""
        return httpx.get(f"{self.origin}{path}", trust_env=False, verify=False)

    def stop(self) -> None:
        """End it as an operator would; returns when it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        """A plain HTTP client for the data plane, with this key."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(
            base_url=self.base_url,
            headers=headers,
            trust_env=False,
            timeout=30,
            transport=httpx.HTTPTransport(verify=False),  # reading certificates would take 20 ms a client
            **options,
        )

    @contextmanager
    def asked(self, path: str, body: Any, *, key: str, headers: dict[str, str] | None = None) -> Iterator[None]:
        """A client that has sent a call, with the bytes that `client` sends, and leaves at the end of the block."""
        content = orjson.dumps(body)
        told = {
            "host": "x",
            "authorization": f"Bearer {key}",
            "content-type": "application/json",
            "content-length": str(len(content)),
            **(headers or {}),
        }
        lines = [f"POST /v1{path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall("\r\n".join(lines).encode() + content)
            yield

    def call_lines(self) -> list[dict[str, Any]]:
        """The JSON lines it has logged, one for each call."""
        whole, _, _under_way = self.log.read_text().rpartition("\n")
        lines = (line for line in whole.splitlines() if line.startswith("{"))
        return [line for line in map(orjson.loads, lines) if line.get("event") == "call"]
