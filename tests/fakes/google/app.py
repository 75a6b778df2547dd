"""The fake Gemini's HTTP application: checks the key and the request, picks the script, answers."""

import re
from typing import Any

import orjson
from aiohttp import web

from tests.fakes.application import VendorApplication
from tests.fakes.google import wire
from tests.fakes.google.errors import VendorError, envelope
from tests.fakes.google.validation import camel, check_batch, check_embed, check_generate
from tests.fakes.google.videos import OperationShelf
from tests.fakes.openai.exchange import Exchange
from tests.fakes.openai.scripts import Script
from tests.fakes.records import Record

MODELS = ("gemini-3-pro", "gemini-3.5-flash", "gemini-2.5-flash", "gemini-embedding-001")
METHOD = re.compile(
    r"/v1(?:beta)?/(?:models|tunedModels)/([^/:]+):"
    r"(generateContent|streamGenerateContent|countTokens|embedContent|batchEmbedContents)"
)
LISTING = re.compile(r"/v1(?:beta)?/models(?:/([^/:]+))?")


class GoogleExchange(Exchange):
    """One request and its answer, with the vendor's headers and error events. It has no request id and no limits."""

    def vendor_headers(self) -> dict[str, str]:
        return {"server": "scaffolding on HTTPServer2", "x-frame-options": "SAMEORIGIN", "vary": "Origin"}

    def error_event(self, error: dict[str, Any]) -> bytes:
        return wire.sse(envelope(503, **error))


class GoogleApplication(VendorApplication):
    """Google's."""

    exchange_class = GoogleExchange

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._operations = OperationShelf()

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        record = exchange.record
        try:
            self._authenticate(record)
            if self._operations.knows(record):
                script = self._scripts.take(record.path, record.model, record.raw_body)
                await exchange.before_headers(script)
                if script.status != 200:
                    raise VendorError("scripted", status=script.status)
                return await self._operations.answer(exchange, script, origin=exchange.origin)
            method = self._parse(record)
        except VendorError as error:
            return await exchange.send_json(error.envelope, Script(status=error.status))
        script = self._scripts.take(record.path, record.model, record.raw_body)
        await exchange.before_headers(script)
        if script.status != 200 or script.body is not None or script.raw_body is not None:
            body = script.body if script.body is not None else envelope(script.status, **script.error)
            return await exchange.send_json(body, script)
        if method == "list":
            return await exchange.send_json(self._models(record.model), script)
        if method in ("embedContent", "batchEmbedContents"):
            body = wire.embed_body(record.body, script)
            usage = body.get("usageMetadata")
            exchange.prompt_tokens = usage["promptTokenCount"] if usage else 0
            return await exchange.send_json(body, script, usage=usage)
        reply = wire.answer_to(record.body, record.model, script)
        record.id, exchange.prompt_tokens = reply.id, reply.prompt_tokens
        if method == "countTokens":
            return await exchange.send_json({"totalTokens": reply.prompt_tokens}, script)
        if method == "streamGenerateContent":
            events = wire.stream_events(reply, exchange.produced)
            if script.raw_events:
                events = (wire.Event(data) for data in script.raw_events)
            return await exchange.send_stream(events, script)
        body = wire.whole_body(reply, exchange.produced)
        return await exchange.send_json(body, script, usage=body.get("usageMetadata"))

    def _authenticate(self, record: Record) -> None:
        given = record.headers.get("x-goog-api-key")
        if given is None:
            raise VendorError("Method doesn't allow unregistered callers.", status=403)
        if given != self._api_key:
            details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
            raise VendorError("API key not valid. Please pass a valid API key.", details=details)

    def _parse(self, record: Record) -> str:
        """Read and check the request; VendorError for an unknown path or a broken body."""
        listing = LISTING.fullmatch(record.path)
        if record.method == "GET" and listing:
            record.model = listing[1] or ""
            if record.model and record.model not in MODELS:
                raise VendorError(f"models/{record.model} is not found", status=404)
            return "list"
        found = METHOD.fullmatch(record.path)
        if record.method != "POST" or not found:
            raise VendorError("Not Found", status=404)
        try:
            record.body = camel(orjson.loads(record.raw_body))
        except orjson.JSONDecodeError as error:
            raise VendorError("Invalid JSON payload received.") from error
        record.model = found[1]
        if found[2] == "batchEmbedContents":
            check_batch(record.body, model=record.model)
        elif found[2] == "embedContent":
            check_embed(record.body)
        else:
            check_generate(record.body, model=record.model)
        return found[2]

    def _models(self, only: str) -> dict[str, Any]:
        rows = [
            {
                "name": f"models/{name}",
                "displayName": name.title(),
                "inputTokenLimit": 1_048_576,
                "outputTokenLimit": 65_536,
            }
            for name in MODELS
        ]
        return next(row for row in rows if row["name"] == f"models/{only}") if only else {"models": rows}
