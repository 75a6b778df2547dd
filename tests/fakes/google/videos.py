"""Google's Veo: an operation that is asked after, and a file behind the same key."""

from __future__ import annotations

import re
from typing import Any

import orjson
from aiohttp import web

from tests.fakes.google.errors import VendorError
from tests.fakes.openai.exchange import Exchange
from tests.fakes.openai.scripts import Script
from tests.fakes.records import Record
from tests.fakes.videos import FakeVideo

SUBMIT = re.compile(r"/v1(?:beta1?)?/(?:publishers/google/)?models/([^/:]+):predictLongRunning")
OPERATION = re.compile(r"/v1(?:beta1?)?/(models/[^/]+/operations/(\d+))(:cancel)?")
FILE = re.compile(r"/v1beta/files/(\d+):download")


class OperationShelf:
    """The operations of one server."""

    def __init__(self) -> None:
        self.videos: dict[str, FakeVideo] = {}

    def knows(self, record: Record) -> bool:
        """Whether a request is about videos."""
        return any(pattern.fullmatch(record.path) for pattern in (SUBMIT, OPERATION, FILE))

    async def answer(self, exchange: Exchange, script: Script, *, origin: str) -> web.StreamResponse:
        """Raises VendorError."""
        record = exchange.record
        if found := SUBMIT.fullmatch(record.path):
            return await exchange.send_json({"name": self._begin(record, found[1])}, script)
        if found := FILE.fullmatch(record.path):
            return await exchange.send_bytes(self._video(found[1]).content, "video/mp4")
        found = OPERATION.fullmatch(record.path)
        assert found is not None
        video = self._video(found[2])
        if found[3]:
            if not video.cancel():
                raise VendorError("The operation cannot be cancelled.", status=400)
            return await exchange.send_json({}, script)
        video.poll()
        return await exchange.send_json(self._body(found[1], found[2], video, origin), script)

    def _begin(self, record: Record, model: str) -> str:
        record.model, record.body = model, orjson.loads(record.raw_body)
        (instance,) = record.body.get("instances") or [{}]
        parameters = record.body.get("parameters", {})
        if not isinstance(instance.get("prompt"), str):
            raise VendorError("Invalid value at 'instances[0].prompt'")
        if unknown := set(parameters) - {"durationSeconds", "aspectRatio", "resolution"}:
            raise VendorError(f"Unknown name {unknown!r}")
        if not isinstance(parameters.get("durationSeconds", 8), int):
            raise VendorError("durationSeconds must be a number.")
        video = FakeVideo(model, instance["prompt"], parameters.get("durationSeconds", 8))
        self.videos[str(video.number)] = video
        return f"models/{model}/operations/{video.number}"

    def _video(self, number: str) -> FakeVideo:
        if number not in self.videos:
            raise VendorError("Operation not found.", status=404)
        return self.videos[number]

    def _body(self, name: str, number: str, video: FakeVideo, origin: str) -> dict[str, Any]:
        if video.state in ("queued", "in_progress"):
            return {"name": name}
        if video.state == "cancelled":
            return {"name": name, "done": True, "error": {"code": 1, "message": "The operation was cancelled."}}
        answer: dict[str, Any] = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1beta.PredictLongRunningResponse"
        }
        if video.state == "failed":  # filtered: done, and nothing there
            answer["generateVideoResponse"] = {
                "raiMediaFilteredCount": 1,
                "raiMediaFilteredReasons": ["It is filtered."],
            }
        else:
            uri = f"{origin}/v1beta/files/{number}:download?alt=media"
            answer["generateVideoResponse"] = {"generatedSamples": [{"video": {"uri": uri}}]}
        return {"name": name, "done": True, "response": answer}
