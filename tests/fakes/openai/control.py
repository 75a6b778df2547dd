"""HTTP handle on a fake that runs as its own process: `/_fake/script`, `release`, `reset`, `log`, `counters`.

These requests are not recorded. Bytes fields of a script are base64 in JSON.
"""

from collections.abc import Callable
from dataclasses import asdict

import msgspec
from aiohttp import web

from tests.fakes.openai.scripts import Rule, ScriptBook
from tests.fakes.records import RequestLog


def add_control_routes(
    app: web.Application, scripts: ScriptBook, log: RequestLog, *, release: Callable[[], None]
) -> None:
    """Add the routes to `app`. `release` lets held answers go on."""

    async def script(request: web.Request) -> web.Response:
        """Body: the fields of `Rule`, `script` itself an object."""
        scripts.add(msgspec.convert(await request.json(), Rule))
        return web.Response(status=204)

    async def let_go(_: web.Request) -> web.Response:
        release()
        return web.Response(status=204)

    async def reset(_: web.Request) -> web.Response:
        scripts.clear()
        log.clear()
        return web.Response(status=204)

    async def lines(_: web.Request) -> web.Response:
        return web.Response(body=b"".join(record.as_json() + b"\n" for record in log.records))

    async def counters(_: web.Request) -> web.Response:
        return web.json_response(asdict(log.counters))

    app.router.add_post("/_fake/script", script)
    app.router.add_post("/_fake/release", let_go)
    app.router.add_post("/_fake/reset", reset)
    app.router.add_get("/_fake/log", lines)
    app.router.add_get("/_fake/counters", counters)
