"""How much a request may bring: texts, messages, and what is attached to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from gateway.hooks.base import ALLOWED, Hook, Resources, SettingsError, Stage, Streams, Subject, Verdict, blocked
from providers.types import WireFile

AttachmentType = Literal["image_url", "input_audio", "video_url", "file"]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
KINDS = {"image": "image_url", "audio": "input_audio", "video": "video_url"}
REMOTE = ("http://", "https://")


class SizePolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_characters: Annotated[
        Count | None, msgspec.Meta(description="Of all texts of a request together. Empty: any.")
    ] = None
    max_messages: Annotated[
        Count | None, msgspec.Meta(description="Of a chat, or inputs of one embeddings request.")
    ] = None
    max_attachments: Annotated[Count | None, msgspec.Meta(description="In one request; 0 for none at all.")] = None
    max_attachment_bytes: Annotated[
        Count | None, msgspec.Meta(description="Of each that is sent along, as base64 decodes it, or uploaded.")
    ] = None
    attachment_types: Annotated[
        list[AttachmentType] | None, msgspec.Meta(description="Those that are allowed. None chosen: all.")
    ] = None
    allow_remote_urls: Annotated[bool, msgspec.Meta(description="Attachments may be given as a URL to be fetched.")] = (
        True
    )


class SizePolicy(Hook[SizePolicySettings]):
    name = "size_policy"
    description = "Blocks requests that are too long, or that bring too many or the wrong attachments."
    settings_type = SizePolicySettings
    stages = frozenset({Stage.BEFORE})
    streams = Streams.PASS
    waits = False

    def __init__(self, settings: SizePolicySettings, resources: Resources) -> None:
        super().__init__(settings, resources)
        if settings == SizePolicySettings():
            raise SettingsError("There is nothing to hold requests to: set at least one bound.")

    async def before_call(self, request: Subject) -> Verdict:
        attached = [*_attachments(request.body), *map(_uploaded, request.files)]
        broken = self._too_much(request) or self._wrong_attachment(attached)
        return blocked(broken) if broken else ALLOWED

    def _too_much(self, request: Subject) -> str:
        settings = self.settings
        if settings.max_characters is not None:
            characters = sum(len(text.value) for text in request.texts)
            if characters > settings.max_characters:
                return f"its texts have {characters} characters, at most {settings.max_characters} are allowed"
        if settings.max_messages is not None:
            asked = request.body.get("messages", request.body.get("input"))
            count = len(asked) if isinstance(asked, list) else 1
            if count > settings.max_messages:
                return f"it has {count} messages or inputs, at most {settings.max_messages} are allowed"
        return ""

    def _wrong_attachment(self, attachments: list[_Attachment]) -> str:
        settings = self.settings
        if settings.max_attachments is not None and len(attachments) > settings.max_attachments:
            return f"it has {len(attachments)} attachments, at most {settings.max_attachments} are allowed"
        for kind, size_bytes, is_remote in attachments:
            if settings.attachment_types is not None and kind not in settings.attachment_types:
                return f"attachments of type {kind[:50]} are not allowed"
            if is_remote and not settings.allow_remote_urls:
                return "attachments by URL are not allowed"
            if settings.max_attachment_bytes is not None and size_bytes > settings.max_attachment_bytes:
                return f"an attachment has {size_bytes} bytes, at most {settings.max_attachment_bytes} are allowed"
        return ""


class _Attachment(NamedTuple):
    kind: str
    size_bytes: int
    is_remote: bool


def _uploaded(file: WireFile) -> _Attachment:
    """A file that came with a form, in the words that a chat has for its kind."""
    return _Attachment(KINDS.get(file.media_type.partition("/")[0], "file"), len(file.data), is_remote=False)


def _attachments(body: Any) -> Iterator[_Attachment]:
    """Every part of a message that is no text."""
    messages = body.get("messages") if isinstance(body, dict) else None
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind not in ("text", "refusal"):
                source = _source(part.get(kind))
                is_remote = source.lower().startswith(REMOTE)
                size_bytes = 0 if is_remote else len(source.rpartition(",")[2]) * 3 // 4
                yield _Attachment(kind, size_bytes, is_remote)


def _source(value: Any) -> str:
    """Where an attachment's bytes are, or the bytes themselves in base64."""
    if isinstance(value, str):
        return value
    found = [value.get(name) for name in ("url", "data", "file_data")] if isinstance(value, dict) else []
    return next((one for one in found if isinstance(one, str)), "")


HOOK = SizePolicy
