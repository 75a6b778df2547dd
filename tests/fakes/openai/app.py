"""The fake OpenAI's HTTP application: receives, checks the key and the request, picks the script, answers, records."""

import asyncio
import time
import uuid
from typing import Any

import orjson
from aiohttp import web

from tests.fakes.openai import wire
from tests.fakes.openai.answers import answer_to
from tests.fakes.openai.control import add_control_routes
from tests.fakes.openai.embeddings import embeddings_body
from tests.fakes.openai.errors import VendorError, envelope
from tests.fakes.openai.exchange import Exchange
from tests.fakes.openai.scripts import Script, ScriptBook
from tests.fakes.openai.validation import check_chat, check_embeddings
from tests.fakes.records import Record, RequestLog

MODELS = ("gpt-4o-mini", "gpt-5.2", "text-embedding-3-small", "text-embedding-3-large")
MODELS_CREATED = 1721172741
MAX_BODY_BYTES = 64 * 1024 * 1024


class OpenAIApplication:
    """Answers requests by `scripts`, writing each into `log`. Lives on one event loop."""

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
        exchange = Exchange(request, record, self._log, self._held)
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
        record = exchange.record
        try:
            self._authenticate(record)
            check = self._parse(record)
            if check:
                check(record.body)
        except VendorError as error:
            return await exchange.send_json(error.envelope, Script(status=error.status))
        script = self._scripts.take(record.path, record.model, record.raw_body)
        await exchange.before_headers(script)
        if script.status != 200 or script.body is not None or script.raw_body is not None:
            body = script.body if script.body is not None else envelope(script.status, **script.error)
            usage = script.body.get("usage") if isinstance(script.body, dict) else None
            return await exchange.send_json(body, script, usage=usage)
        if record.path == "/v1/chat/completions":
            return await self._chat(exchange, script)
        if record.path == "/v1/embeddings":
            body = embeddings_body(record.body)
            exchange.prompt_tokens = body["usage"]["prompt_tokens"]
            counted = body.pop("usage")
            usage = {} if script.omit_usage else {"usage": script.usage or counted}
            return await exchange.send_json(body | usage | script.extra, script, usage=usage.get("usage"))
        return await exchange.send_json(self._models(record.path), script)

    def _authenticate(self, record: Record) -> None:
        given = record.headers.get("authorization", "")
        if not given:
            raise VendorError(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                status=401,
            )
        if given != f"Bearer {self._api_key}":
            key = given.removeprefix("Bearer ")
            masked = key[:8] + "*" * max(len(key) - 12, 3) + key[-4:]
            raise VendorError(
                f"Incorrect API key provided: {masked}. You can find your API key at "
                "https://platform.openai.com/account/api-keys.",
                code="invalid_api_key",
                status=401,
            )

    def _parse(self, record: Record) -> Any:
        """Read the body and find the check for this path; VendorError for an unknown path or a broken body."""
        checks = {"/v1/chat/completions": check_chat, "/v1/embeddings": check_embeddings}
        if record.method == "GET" and (record.path == "/v1/models" or record.path.startswith("/v1/models/")):
            record.model = record.path.removeprefix("/v1/models").lstrip("/")
            if record.model and record.model not in MODELS:
                raise VendorError(
                    f"The model '{record.model}' does not exist",
                    param="model",
                    code="model_not_found",
                    status=404,
                )
            return None
        if record.method != "POST" or record.path not in checks:
            raise VendorError(f"Invalid URL ({record.method} {record.path})", code="unknown_url", status=404)
        try:
            record.body = orjson.loads(record.raw_body)
        except orjson.JSONDecodeError as error:
            raise VendorError("We could not parse the JSON body of your request.") from error
        if not isinstance(record.body, dict):
            raise VendorError("We could not parse the JSON body of your request: expected an object.")
        record.model = record.body["model"] if isinstance(record.body.get("model"), str) else ""
        return checks[record.path]

    async def _chat(self, exchange: Exchange, script: Script) -> web.StreamResponse:
        record = exchange.record
        answer = answer_to(record.body, script)
        record.id, exchange.prompt_tokens = answer.id, answer.prompt_tokens
        if not record.body.get("stream"):
            body = wire.completion_body(answer, exchange.produced)
            return await exchange.send_json(body, script, usage=body.get("usage"))
        options = record.body.get("stream_options") or {}
        events = wire.stream_events(answer, options, exchange.produced)
        if script.raw_events:
            events = (wire.Event(data) for data in script.raw_events)
        return await exchange.send_stream(events, script)

    def _models(self, path: str) -> dict[str, Any]:
        rows = [{"id": name, "object": "model", "created": MODELS_CREATED, "owned_by": "system"} for name in MODELS]
        if path == "/v1/models":
            return {"object": "list", "data": rows}
        return next(row for row in rows if path == f"/v1/models/{row['id']}")
