"""The fake Anthropic's HTTP application: checks the key and the request, picks the script, answers."""

from typing import Any

import orjson
from aiohttp import web

from tests.fakes.anthropic import wire
from tests.fakes.anthropic.errors import VendorError, envelope
from tests.fakes.anthropic.usage import prompt_tokens
from tests.fakes.anthropic.validation import check_messages
from tests.fakes.application import VendorApplication
from tests.fakes.openai.exchange import VENDOR_COOKIE, Exchange
from tests.fakes.openai.scripts import Script
from tests.fakes.records import Record

VENDOR_ORGANIZATION = "0b2f7a51-vendor-organization"
VERSIONS = ("2023-06-01", "2026-10-21")
MODELS = ("claude-opus-4-7", "claude-haiku-4-5", "claude-haiku-3-5")


class AnthropicExchange(Exchange):
    """One request and its answer, with the vendor's headers and error events."""

    def vendor_headers(self) -> dict[str, str]:
        return {
            "request-id": self.record.request_id,
            "anthropic-organization-id": VENDOR_ORGANIZATION,
            "anthropic-ratelimit-requests-limit": "1000",
            "anthropic-ratelimit-requests-remaining": "999",
            "anthropic-ratelimit-requests-reset": "2026-11-21T12:00:00Z",
            "set-cookie": f"{VENDOR_COOKIE}; path=/; HttpOnly; Secure",
            "server": "cloudflare",
        }

    def error_event(self, error: dict[str, Any]) -> bytes:
        return b"event: error\ndata: %b\n\n" % orjson.dumps(envelope(529, **error))


class AnthropicApplication(VendorApplication):
    """Anthropic's."""

    exchange_class = AnthropicExchange

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        record = exchange.record
        try:
            self._authenticate(record)
            self._parse(record)
        except VendorError as error:
            return await exchange.send_json(error.envelope, Script(status=error.status))
        script = self._scripts.take(record.path, record.model, record.raw_body)
        await exchange.before_headers(script)
        if script.status != 200 or script.body is not None or script.raw_body is not None:
            body = script.body if script.body is not None else envelope(script.status, **script.error)
            usage = script.body.get("usage") if isinstance(script.body, dict) else None
            return await exchange.send_json(body, script, usage=usage)
        if record.path == "/v1/messages":
            return await self._message(exchange, script)
        if record.path == "/v1/messages/count_tokens":
            return await exchange.send_json({"input_tokens": prompt_tokens(record.body)}, script)
        return await exchange.send_json(self._models(record.path), script)

    def _authenticate(self, record: Record) -> None:
        bearer = record.headers.get("authorization", "").removeprefix("Bearer ")
        given = record.headers.get("x-api-key") or bearer
        if given != self._api_key:
            raise VendorError("invalid x-api-key" if given else "x-api-key header is required", status=401)
        if record.headers.get("anthropic-version") not in VERSIONS:
            raise VendorError("anthropic-version: header is required")

    def _parse(self, record: Record) -> None:
        """Read and check the body; VendorError for an unknown path or a broken body."""
        if record.method == "GET" and record.path.startswith("/v1/models"):
            record.model = record.path.removeprefix("/v1/models").lstrip("/")
            if record.model and record.model not in MODELS:
                raise VendorError(f"model: {record.model}", status=404)
            return
        if record.method != "POST" or record.path not in ("/v1/messages", "/v1/messages/count_tokens"):
            raise VendorError("Not Found", status=404)
        try:
            record.body = orjson.loads(record.raw_body)
        except orjson.JSONDecodeError as error:
            raise VendorError("The request body is not valid JSON") from error
        if not isinstance(record.body, dict):
            raise VendorError("Input should be a valid dictionary")
        record.model = str(record.body.get("model", ""))
        checked = record.body if record.path == "/v1/messages" else {"max_tokens": 1, **record.body}
        check_messages(checked, version=record.headers["anthropic-version"])

    async def _message(self, exchange: Exchange, script: Script) -> web.StreamResponse:
        record = exchange.record
        message = wire.answer_to(record.body, script)
        record.id, exchange.prompt_tokens = message.id, message.prompt_tokens
        if not record.body.get("stream"):
            body = wire.message_body(message, exchange.produced)
            return await exchange.send_json(body, script, usage=body.get("usage"))
        events = wire.stream_events(message, exchange.produced)
        if script.raw_events:
            events = (wire.Event(data) for data in script.raw_events)
        return await exchange.send_stream(events, script)

    def _models(self, path: str) -> dict[str, Any]:
        rows = [
            {
                "type": "model",
                "id": name,
                "display_name": name.title(),
                "created_at": "2026-01-01T00:00:00Z",
                "lifecycle": "retired" if "haiku" in name else "active",
                "max_input_tokens": 200_000,
                "max_tokens": 64_000,
            }
            for name in MODELS
        ]
        if path == "/v1/models":
            return {"data": rows, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
        return next(row for row in rows if path == f"/v1/models/{row['id']}")
