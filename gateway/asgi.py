"""The ASGI application: the data plane's lean handler in front of Django's own for everything else."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
control_plane = get_asgi_application()

from gateway.data_plane_urls import PREFIXES  # noqa: E402 -- Django must be set up first
from gateway.desk.inside import CALLERS, DATA_PLANE  # noqa: E402
from gateway.desk.live import PREFIX as ADMIN  # noqa: E402
from gateway.desk.live import live_application  # noqa: E402
from gateway.door import Door  # noqa: E402
from gateway.handler import DataPlaneHandler  # noqa: E402
from gateway.realtime.door import RealtimeDoor  # noqa: E402
from gateway.runtime import Gateway, GatewayConfig  # noqa: E402

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

logger = logging.getLogger(__name__)


class Application:
    """One process's gateway, and the two planes over it."""

    def __init__(self, config: GatewayConfig) -> None:
        self._gateway = Gateway(config)
        self._data_plane = Door(DataPlaneHandler(self._gateway), self._gateway)
        self._realtime = RealtimeDoor(self._gateway)
        self._live = live_application()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(PREFIXES):
            if not self._gateway.started:  # daphne sends no lifespan events
                await self._gateway.start()
            await self._data_plane(scope, receive, send)
        elif scope["type"] == "websocket" and scope["path"].startswith(ADMIN):
            await self._live(scope, receive, send)
        elif scope["type"] == "websocket":
            if not self._gateway.started:
                await self._gateway.start()
            await self._realtime(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(CALLERS):
            if not self._gateway.started:
                await self._gateway.start()
            await control_plane({**scope, DATA_PLANE: self._data_plane}, receive, send)  # type: ignore[arg-type]
        else:
            await control_plane(scope, receive, send)  # type: ignore[arg-type]

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._gateway.start()
                self._gateway.stopping.before_shutdown = self._gateway.realtime.drain
                self._gateway.stopping.on_signals()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._gateway.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


application = Application(GatewayConfig.from_settings())
