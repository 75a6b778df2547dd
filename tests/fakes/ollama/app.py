"""The fake Ollama's HTTP application: checks the request, picks the script, answers. It wants no key."""

from typing import Any

import orjson
from aiohttp import web

from tests.fakes.application import VendorApplication
from tests.fakes.ollama import wire
from tests.fakes.ollama.validation import MODELS, VendorError, check_chat, check_embed
from tests.fakes.openai.exchange import Exchange
from tests.fakes.openai.scripts import Script

CHECKS = {"/api/chat": check_chat, "/api/embed": check_embed}


class OllamaExchange(Exchange):
    """One request and its answer: lines of JSON, and no headers to speak of."""

    stream_type = "application/x-ndjson"

    def vendor_headers(self) -> dict[str, str]:
        return {"date": "Sat, 21 Nov 2026 12:00:00 GMT"}

    def error_event(self, error: dict[str, Any]) -> bytes:
        return wire.line({"error": error.get("message", "an error was encountered while running the model")})


class OllamaApplication(VendorApplication):
    """Ollama's."""

    exchange_class = OllamaExchange

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        record = exchange.record
        try:
            self._parse(exchange)
        except VendorError as error:
            return await exchange.send_json(error.envelope, Script(status=error.status))
        script = self._scripts.take(record.path, record.model, record.raw_body)
        await exchange.before_headers(script)
        if script.status != 200 or script.body is not None or script.raw_body is not None:
            refused = {"error": script.error.get("message", "server busy, please try again")}
            return await exchange.send_json(script.body if script.body is not None else refused, script)
        if record.path == "/api/tags":
            rows = [{"name": name, "model": name, "size": 2_019_393_189, "details": {}} for name in MODELS]
            return await exchange.send_json({"models": rows}, script)
        if record.path == "/api/embed":
            body = wire.embed_body(record.body)
            exchange.prompt_tokens = body["prompt_eval_count"]
            return await exchange.send_json(body, script)
        reply = wire.answer_to(record.body, script)
        exchange.prompt_tokens = reply.prompt_tokens
        if record.body.get("stream", True):
            events = wire.stream_events(reply, exchange.produced)
            if script.raw_events:
                events = (wire.Event(data) for data in script.raw_events)
            return await exchange.send_stream(events, script)
        body = wire.whole_body(reply, exchange.produced)
        usage = {name: body[name] for name in body if name.endswith("_count")}
        return await exchange.send_json(body, script, usage=usage)

    def _parse(self, exchange: Exchange) -> None:
        """Read and check the request; VendorError for an unknown path or a broken body."""
        record = exchange.record
        if (record.method, record.path) == ("GET", "/api/tags"):
            return
        if record.method != "POST" or record.path not in CHECKS:
            raise VendorError("404 page not found", status=404)
        try:
            record.body = orjson.loads(record.raw_body)
        except orjson.JSONDecodeError as error:
            raise VendorError(f"invalid character: {error}") from error
        record.model = record.body.get("model") or ""
        CHECKS[record.path](record.body)
