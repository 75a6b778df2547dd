"""What a session pool is told when it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The command and its bounds. It comes from settings and nowhere else: no row of the database names a program."""

    command: tuple[str, ...]
    """The program and its arguments, as they are; no shell reads them."""
    folder: Path
    """Where the program runs; made when it is not there."""
    environment: Mapping[str, str]
    """All the variables that the program gets."""
    secrets: tuple[str, ...] = ()
    """Texts that must not get into the log."""
    size: int = 2
    overflow: int = 2
    """How many more sessions may be started for requests that find the pool busy."""
    keep_alive_seconds: float = 300
    """After how long without a request a session is pinged; 0: never."""
    request_timeout_seconds: float = 60
    """How long a request may take, waiting for a session included; also how long a session may take to start."""
    before_exec: Callable[[], None] | None = None
    """Called in the new process before it becomes the program."""
