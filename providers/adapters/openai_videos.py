"""OpenAI's Videos API, `/videos`, which servers of that protocol still speak after OpenAI's own has ended.

Source: the type definitions of the `openai` SDK 3.52.0; the further states are OpenRouter's (api_reference/videos).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from providers.adapters.mock import BASE_URL
from providers.adapters.openai_compatible import GATEWAY_MEMBERS, authorization
from providers.asynchronous import UpstreamState, UpstreamStatus, state_in
from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED
from providers.types import Target, UpstreamRequest, WireRequest

STATES = {
    "queued": UpstreamState.QUEUED,
    "pending": UpstreamState.QUEUED,
    "in_progress": UpstreamState.IN_PROGRESS,
    "processing": UpstreamState.IN_PROGRESS,
    "completed": UpstreamState.COMPLETED,
    "succeeded": UpstreamState.COMPLETED,
    "failed": UpstreamState.FAILED,
    "cancelled": UpstreamState.CANCELLED,
    "canceled": UpstreamState.CANCELLED,
    "expired": UpstreamState.EXPIRED,
}


class _Error(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Video(msgspec.Struct):
    id: str
    status: str
    progress: float | None = None
    seconds: str | int | None = None
    error: _Error | str | None = None


_decode = msgspec.json.Decoder(_Video, strict=False).decode
_encode = msgspec.json.encode


class OpenAIVideos:
    """See `providers.asynchronous.AsynchronousAdapter`."""

    operations = frozenset({"videos"})
    capabilities = frozenset({"video_generation"})

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def submit(self, request: WireRequest, target: Target) -> UpstreamRequest:
        members: dict[str, Any] = {
            name: value for name, value in request.members.items() if name not in (*GATEWAY_MEMBERS, "metadata", "user")
        }
        members["model"] = target.upstream_model
        headers = {"content-type": "application/json", **authorization(target)}
        return UpstreamRequest(url=f"{self._base(target)}/videos", headers=headers, body=_encode(members))

    def read_submission(self, body: bytes) -> str:
        return _read(body).id

    def poll(self, upstream_id: str, target: Target) -> UpstreamRequest:
        return self._ask(target, f"/videos/{quote(upstream_id, safe='')}")

    def read_status(self, body: bytes) -> UpstreamStatus:
        video = _read(body)
        state, unknown = state_in(STATES, video.status)
        error = video.error if isinstance(video.error, _Error) else _Error(message=video.error)
        text = str(video.seconds or "")
        return UpstreamStatus(
            state=state,
            unknown_state=unknown,
            progress=min(100, max(0, int(video.progress))) if video.progress is not None else None,
            seconds=int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None,
            code=error.code or "",
            message=error.message or "",
            raw=body,
        )

    def cancel(self, upstream_id: str, target: Target) -> UpstreamRequest | None:
        """The protocol has no other end of a video than to delete it, which servers may refuse while it is made."""
        return msgspec.structs.replace(self.poll(upstream_id, target), method="DELETE")

    def content(self, upstream_id: str, status: UpstreamStatus, *, target: Target) -> UpstreamRequest:
        return self._ask(target, f"/videos/{quote(upstream_id, safe='')}/content")

    def _ask(self, target: Target, path: str) -> UpstreamRequest:
        return UpstreamRequest(url=self._base(target) + path, headers=authorization(target), body=b"", method="GET")

    def _base(self, target: Target) -> str:
        return target.base_url


class MockVideos(OpenAIVideos):
    """The offline mock: the same protocol to its one address."""

    def _base(self, target: Target) -> str:
        return BASE_URL


def _read(body: bytes) -> _Video:
    try:
        return _decode(body)
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider's video is none: {error}") from error


ASYNCHRONOUS = (OpenAIVideos("openai_compatible"), OpenAIVideos("openai"), MockVideos("mock"))
