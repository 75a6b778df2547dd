"""What every fake's HTTP application does whatever it speaks: receives, records, notices who left first, stops."""

import asyncio
import time
import uuid

from aiohttp import web

from tests.fakes.openai.control import add_control_routes
from tests.fakes.openai.exchange import Exchange
from tests.fakes.openai.scripts import ScriptBook
from tests.fakes.records import Record, RequestLog

MAX_BODY_BYTES = 64 * 1024 * 1024


class VendorApplication:
    """Answers requests by `scripts`, writing each into `log`. Lives on one event loop. A vendor's own says how."""

    exchange_class = Exchange

    def __init__(self, *, api_key: str, log: RequestLog, scripts: ScriptBook) -> None:
        self._api_key = api_key
        self._log = log
        self._scripts = scripts
        self._held: set[asyncio.Event] = set()
        self._stopping = False

    def build(self) -> web.Application:
        """The aiohttp application. Every path reaches `_serve`, so that unknown ones are recorded too."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        add_control_routes(app, self._scripts, self._log, release=self.release)
        app.router.add_route("*", "/{path:.*}", self._serve)
        app.on_shutdown.append(self._stop)
        return app

    def release(self) -> None:
        """Let every answer held now go on. Later ones hold again. Call it on the server's loop."""
        for event in self._held:
            event.set()

    async def _stop(self, _: web.Application) -> None:
        self._stopping = True

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw_body = await request.read()
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        request_id = f"req_{uuid.uuid4().hex}"
        record = Record(request_id, request.method, request.path, headers, raw_body, received_at=time.time())
        self._log.opened(record)
        exchange = self.exchange_class(request, record, self._log, self._held)
        try:
            return await self._answer(exchange)
        except asyncio.CancelledError:
            record.client_left = not (exchange.dropped or self._stopping or record.completed)
            raise
        except ConnectionResetError:
            record.client_left = not (exchange.dropped or record.completed)
            return web.Response()  # nobody hears it; aiohttp wants a response
        finally:
            exchange.account()
            self._log.ended(record)

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        raise NotImplementedError
