"""A gateway of this process, for what has no door of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.runtime import Gateway, GatewayConfig
from tests.factories import unique


@asynccontextmanager
async def running(tmp_path: Path, **media: Any) -> AsyncIterator[Gateway]:
    """A gateway with these fields of `MediaConfig`, started and in the end closed."""
    config = GatewayConfig.from_settings()
    fields = {"spool_dir": tmp_path / "spool", **media}
    gateway = Gateway(replace(config, flight_dir=tmp_path / unique("flight"), media=replace(config.media, **fields)))
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.close()


Work = Callable[[Gateway], Awaitable[Any]]


@pytest.fixture
def with_gateway(committed: None, tmp_path: Path) -> Callable[..., Any]:
    """Runs a coroutine function over a gateway."""

    async def run(work: Work, **media: Any) -> Any:
        async with running(tmp_path, **media) as gateway:
            return await work(gateway)

    return run
