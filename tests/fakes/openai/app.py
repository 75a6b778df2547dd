"""The fake OpenAI's HTTP application: receives, checks the key and the request, picks the script, answers, records."""

from collections.abc import Iterator
from typing import Any

import orjson
from aiohttp import web

from tests.fakes.application import VendorApplication
from tests.fakes.openai import media, wire
from tests.fakes.openai.answers import Answer, answer_to
from tests.fakes.openai.embeddings import embeddings_body
from tests.fakes.openai.errors import VendorError, envelope
from tests.fakes.openai.exchange import Exchange
from tests.fakes.openai.scripts import Script
from tests.fakes.openai.validation import check_chat, check_embeddings
from tests.fakes.openai.videos import VideoShelf
from tests.fakes.records import Record

MODELS = ("gpt-4o-mini", "gpt-5.2", "text-embedding-3-small", "text-embedding-3-large")
MODELS_CREATED = 1721172741
MEDIA_TYPES = {
    "mp3": "audio/mpeg", "opus": "audio/opus", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav",
    "pcm": "audio/pcm",
}  # fmt: skip


class OpenAIApplication(VendorApplication):
    """OpenAI's. `root` is what every path begins with."""

    root = "/v1"
    models = MODELS

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._videos = VideoShelf()

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        record = exchange.record
        try:
            self._authenticate(record)
            if self._videos.knows(record):
                script = self._scripts.take(record.path, record.model, record.raw_body)
                await exchange.before_headers(script)
                if script.status != 200:
                    raise VendorError(script.error.get("message", "scripted"), status=script.status)
                return await self._videos.answer(exchange, script)
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
        if record.path == f"{self.root}/chat/completions":
            return await self._chat(exchange, script)
        if record.path == f"{self.root}/embeddings":
            body = embeddings_body(record.body)
            exchange.prompt_tokens = body["usage"]["prompt_tokens"]
            counted = body.pop("usage")
            usage = {} if script.omit_usage else {"usage": script.usage or counted}
            return await exchange.send_json(body | usage | script.extra, script, usage=usage.get("usage"))
        if record.path.removeprefix(self.root) in media.CHECKS:
            return await self._media(exchange, script)
        return await exchange.send_json(self._models(record.path), script)

    async def _media(self, exchange: Exchange, script: Script) -> web.StreamResponse:
        body, path = exchange.record.body, exchange.record.path.removeprefix(self.root)
        stream = body.get("stream") in (True, "true")
        if stream and script.raw_events:
            return await exchange.send_stream(map(wire.Event, script.raw_events), script)
        if path == "/audio/speech":
            if body.get("stream_format") == "sse":
                return await exchange.send_stream(media.speech_events(body), script)
            content_type = MEDIA_TYPES[body.get("response_format", "mp3")]
            return await exchange.send_stream(map(wire.Event, media.spoken(body)), script, content_type=content_type)
        if path.startswith("/images"):
            if stream:
                return await exchange.send_stream(media.image_events(body), script)
            answer = media.images_body(body, script)
            return await exchange.send_json(answer | script.extra, script, usage=answer.get("usage"))
        if stream and body["model"] != "whisper-1":
            return await exchange.send_stream(media.transcript_events(body), script)
        answer = media.transcript(body)
        usage = answer.pop("usage") if script.omit_usage else answer["usage"]
        return await exchange.send_json(answer | script.extra, script, usage=usage)

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

    def _checks(self) -> dict[str, Any]:
        """What is asked of a request, by path."""
        checks = {f"{self.root}{path}": check for path, check in media.CHECKS.items()}
        return {f"{self.root}/chat/completions": check_chat, f"{self.root}/embeddings": check_embeddings, **checks}

    def _parse(self, record: Record) -> Any:
        """Read the body and find the check for this path; VendorError for an unknown path or a broken body."""
        checks = self._checks()
        listing = f"{self.root}/models"
        if record.method == "GET" and (record.path == listing or record.path.startswith(f"{listing}/")):
            record.model = record.path.removeprefix(listing).lstrip("/")
            if record.model and record.model not in self.models:
                raise VendorError(
                    f"The model '{record.model}' does not exist",
                    param="model",
                    code="model_not_found",
                    status=404,
                )
            return None
        if record.method != "POST" or record.path not in checks:
            raise VendorError(f"Invalid URL ({record.method} {record.path})", code="unknown_url", status=404)
        if record.path.removeprefix(self.root) in media.FORMS:
            record.body = media.parse_form(record.headers.get("content-type", ""), record.raw_body)
            record.model = record.body.get("model", "")
            return checks[record.path]
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
        answer = self._said(record.body, script)
        record.id, exchange.prompt_tokens = answer.id, answer.prompt_tokens
        if not record.body.get("stream"):
            body = wire.completion_body(answer, exchange.produced)
            return await exchange.send_json(body, script, usage=body.get("usage"))
        options = record.body.get("stream_options") or {}
        events = self._events(answer, options, exchange)
        if script.raw_events:
            events = (wire.Event(data) for data in script.raw_events)
        return await exchange.send_stream(events, script)

    def _said(self, body: dict[str, Any], script: Script) -> Answer:
        """What is answered to a valid chat request."""
        return answer_to(body, script)

    def _events(self, answer: Answer, options: dict[str, Any], exchange: Exchange) -> Iterator[wire.Event]:
        """The events of a stream."""
        return wire.stream_events(answer, options, exchange.produced)

    def _models(self, path: str) -> dict[str, Any]:
        rows = [
            {"id": name, "object": "model", "created": MODELS_CREATED, "owned_by": "system"} for name in self.models
        ]
        if path == f"{self.root}/models":
            return {"object": "list", "data": rows}
        return next(row for row in rows if path == f"{self.root}/models/{row['id']}")
