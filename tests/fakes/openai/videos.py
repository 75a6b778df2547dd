"""OpenAI's Videos API as servers of that protocol still speak it."""

from __future__ import annotations

import email
import re
from typing import Any

import orjson
from aiohttp import web

from tests.fakes.openai.errors import VendorError
from tests.fakes.openai.exchange import Exchange
from tests.fakes.openai.scripts import Script
from tests.fakes.records import Record
from tests.fakes.videos import FakeVideo

PATH = re.compile(r"/v1/videos(?:/(video_\d+)(/content)?)?")
SECONDS = ("4", "8", "12")


def _form(record: Record) -> dict[str, Any]:
    """The fields of a form, which is what the vendor's SDK sends; empty for what is none."""
    kind = record.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        return {}
    message = email.message_from_bytes(b"content-type: %b\r\n\r\n%b" % (kind.encode(), record.raw_body))
    fields = {}
    for part in message.get_payload():
        fields[part.get_param("name", header="content-disposition")] = part.get_payload(decode=True).decode()
    return fields


class VideoShelf:
    """The videos of one server."""

    def __init__(self) -> None:
        self.videos: dict[str, FakeVideo] = {}

    def knows(self, record: Record) -> bool:
        """Whether a request is about videos."""
        return PATH.fullmatch(record.path) is not None

    def begin(self, record: Record) -> dict[str, Any]:
        """Raises VendorError for what the vendor refuses."""
        try:
            body = record.body = _form(record) or orjson.loads(record.raw_body)
        except orjson.JSONDecodeError as error:
            raise VendorError("We could not parse the JSON body of your request.") from error
        if not isinstance(body.get("prompt"), str) or not body["prompt"]:
            raise VendorError("Missing required parameter: 'prompt'.", param="prompt")
        if body.get("seconds", "4") not in SECONDS:
            raise VendorError(f"Invalid value: supported values are {SECONDS}.", param="seconds")
        record.model = body.get("model", "")
        video = FakeVideo(record.model, body["prompt"], int(body.get("seconds", "4")), body.get("size", "720x1280"))
        self.videos[f"video_{video.number}"] = video
        return self._body(f"video_{video.number}")

    async def answer(self, exchange: Exchange, script: Script) -> web.StreamResponse:
        """Answer a request that is valid as far as its path goes. Raises VendorError."""
        record = exchange.record
        found = PATH.fullmatch(record.path)
        assert found is not None
        if found[1] is None:
            if record.method != "POST":
                raise VendorError("Not here.", status=405)
            return await exchange.send_json(self.begin(record), script)
        video = self.videos.get(found[1])
        if video is None:
            raise VendorError(f"Video with id '{found[1]}' not found.", status=404)
        if found[2]:
            if video.state != "completed":
                raise VendorError("Video is not ready yet.", status=404)
            return await exchange.send_bytes(video.content, "video/mp4")
        if record.method == "DELETE":
            if not video.cancel() and video.state not in ("completed", "failed"):
                raise VendorError("The video is being made and cannot be deleted.", status=409)
            return await exchange.send_json({"id": found[1], "object": "video.deleted", "deleted": True}, script)
        video.poll()
        return await exchange.send_json(self._body(found[1]), script)

    def _body(self, video_id: str) -> dict[str, Any]:
        video = self.videos[video_id]
        error = {"code": "moderation_blocked", "message": "It was not made."} if video.state == "failed" else None
        return {
            "id": video_id, "object": "video", "model": video.model, "status": video.state,
            "progress": {"queued": 0, "completed": 100}.get(video.state, 50), "created_at": 1_790_000_000,
            "completed_at": 1_790_000_060 if video.state == "completed" else None, "expires_at": None,
            "seconds": str(video.seconds), "size": video.size, "prompt": video.prompt,
            "remixed_from_video_id": None, "error": error,
        }  # fmt: skip
