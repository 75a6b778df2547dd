"""Runs an aiohttp application on a loopback port: in a thread with its own event loop, or as the whole process."""

import asyncio
import signal
import sys
import threading
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web

# Held and hanging answers never end by themselves: stopping cancels them at once.
SHUTDOWN_SECONDS = 0.05


async def listen(app: web.Application, port: int) -> tuple[web.AppRunner, int]:
    """Start `app` on 127.0.0.1 and `port` (0: any free one). Returns the runner and the port really used.

    A client that leaves cancels its handler, as a provider stops generating.
    """
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
    await site.start()
    return runner, runner.addresses[0][1]


class ThreadedServer:
    """Context manager: `app` served by a thread of this process until exit. `port` is known once entered."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fake-provider", daemon=True)
        self._runner: web.AppRunner | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(listen(self._app, 0), self._loop)
        self._runner, self.port = started.result(timeout=10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop


async def serve_until_signalled(app: web.Application, port: int) -> None:
    """Serve until SIGTERM or SIGINT; prints `{"port": …}` on standard output once connections are accepted."""
    runner, port = await listen(app, port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    sys.stdout.buffer.write(orjson.dumps({"port": port}) + b"\n")
    sys.stdout.buffer.flush()
    await stop.wait()
    await runner.cleanup()
