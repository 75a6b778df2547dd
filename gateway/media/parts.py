"""The pictures, sound, films and documents in a chat's messages: where they are, and how one is replaced."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.errors import ValidationError

KINDS = {"image_url": "vision", "input_audio": "audio", "video_url": "video", "file": "documents"}
"""What a content part of each type needs of a model."""

SOUND_FORMATS = {"audio/mpeg": "mp3", "audio/wav": "wav", "audio/mp4": "m4a"}
"""As OpenAI calls them; others are named as their MIME type is."""

PDF = "application/pdf"

_decode = msgspec.json.Decoder(list[dict[str, Any]]).decode


@dataclass(frozen=True, slots=True)
class Part:
    """One such part; `content` is its own object in the message, and changing that changes the message."""

    kind: str
    place: str
    content: dict[str, Any]

    @property
    def data(self) -> tuple[str, str] | None:
        """MIME type and base64, where it is there itself."""
        if self.kind == "audio" and self.content.get("data"):
            return f"audio/{self.content.get('format', '')}", str(self.content["data"])
        given = self._given
        if given.startswith("data:"):
            head, _, data = given[5:].partition(",")
            return head.partition(";")[0].lower(), data
        is_plain = self.kind == "documents" and self.content.get("file_data") == given and "://" not in given[:16]
        return (PDF, given) if given and is_plain else None

    @property
    def file_id(self) -> str | None:
        """The tenant's own file that it is."""
        given = self.content.get("file_id")
        return given if isinstance(given, str) and given else None

    @property
    def url(self) -> str:
        """The address that it is at. Raises `ValidationError` where it is nowhere."""
        given = self._given
        if not given:
            names = {"audio": "data", "documents": "file_data"}
            param = f"{self.place}.{names.get(self.kind, 'url')}"
            raise ValidationError(f"{param} is required.", param=param)
        return given

    @property
    def _given(self) -> str:
        names = ("file_data", "file_url", "url") if self.kind == "documents" else ("url",)
        return next((given for name in names if isinstance(given := self.content.get(name), str) and given), "")

    def put(self, data: bytes, mime: str, *, filename: str = "") -> None:
        """Have it carry its content itself."""
        text = base64.b64encode(data).decode()
        for name in ("url", "file_id", "file_url"):
            self.content.pop(name, None)
        if self.kind == "audio":
            self.content.update(data=text, format=SOUND_FORMATS.get(mime, mime.partition("/")[2]))
        elif self.kind == "documents":
            self.content["file_data"] = f"data:{mime};base64,{text}"
            self.content.setdefault("filename", filename or f"file.{mime.partition('/')[2]}")
        else:
            self.content["url"] = f"data:{mime};base64,{text}"


def parts_of(messages: msgspec.Raw) -> tuple[list[dict[str, Any]], list[Part]]:
    """A chat's messages, and the parts in them that are no text. The messages' types have been checked."""
    decoded = _decode(messages)
    return decoded, list(_find(decoded))


def _find(messages: list[dict[str, Any]]) -> Iterator[Part]:
    for number, message in enumerate(messages):
        content = message.get("content")
        for position, part in enumerate(content if isinstance(content, list) else ()):
            kind = KINDS.get(part["type"])
            if kind is None:
                continue
            place = f"messages[{number}].content[{position}].{part['type']}"
            own = part.get(part["type"])
            if not isinstance(own, dict):
                raise ValidationError(f"{place} is required.", param=place)
            yield Part(kind, place, own)


def from_base64(text: str) -> bytes:
    """What base64 stands for; empty for what is none, which the provider may say more about."""
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""
