"""The mock's videos: OpenAI's Videos API without a memory. A video's id says when it was asked for and how long it is,
and the clock how far it is; it takes two seconds, whatever its length."""

from __future__ import annotations

import re
import struct
import time
from typing import Any

import msgspec

from providers.mock.requests import RequestRefusedError

MAKING_SECONDS = 2.0
LENGTHS = ("4", "8", "12")
PATH = re.compile(r"/videos/(video_mock_(\d{1,15})_(\d{1,2})_[0-9a-f]{8})(/content)?")


class VideoRequest(msgspec.Struct):
    """What is asked for."""

    model: str
    prompt: str
    seconds: str | int = "4"
    size: str = "720x1280"


def begin(asked: VideoRequest, digest: str) -> dict[str, Any]:
    """A new video."""
    if str(asked.seconds) not in LENGTHS:
        raise RequestRefusedError(f"seconds is one of {', '.join(LENGTHS)}.", param="seconds")
    video_id = f"video_mock_{time.time_ns() // 1_000_000}_{asked.seconds}_{digest[:8]}"
    return {**_video(video_id, int(asked.seconds), share=0.0), "model": asked.model, "size": asked.size}


def look(path: str, *, method: str) -> dict[str, Any] | bytes | None:
    """A video as it stands, or its bytes, or that it is deleted; None for a path that names none."""
    found = PATH.fullmatch(path)
    if found is None:
        return None
    video_id, begun_ms, seconds = found[1], int(found[2]), int(found[3])
    if method == "DELETE":
        return {"id": video_id, "object": "video.deleted", "deleted": True}
    share = max(0.0, (time.time() - begun_ms / 1000) / MAKING_SECONDS)
    if not found[4]:
        return _video(video_id, seconds, share=share)
    if share < 1:
        raise RequestRefusedError("The video is not ready yet.", status=404)
    return mp4(seconds)


def _video(video_id: str, seconds: int, *, share: float) -> dict[str, Any]:
    status = "queued" if share < 0.2 else "in_progress" if share < 1 else "completed"
    return {
        "id": video_id,
        "object": "video",
        "status": status,
        "progress": min(100, int(share * 100)),
        "created_at": int(video_id.split("_")[2]) // 1000,
        "seconds": str(seconds),
        "error": None,
    }


def mp4(seconds: int) -> bytes:
    """An MP4 without a track, as long as asked for: enough for whatever looks at what it is and how long."""
    header = struct.pack(">IIIII", 0, 0, 0, 1000, seconds * 1000)  # created, changed, units a second, length
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    movie_header = _box(b"mvhd", header + struct.pack(">IHHQ", 0x10000, 0x100, 0, 0) + matrix + bytes(24) + b"\0\0\0\1")
    return _box(b"ftyp", b"isom\0\0\2\0isomiso2mp41") + _box(b"moov", movie_header) + _box(b"mdat", b"")


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content
