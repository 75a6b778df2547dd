"""What a file is by its content, and whether it can be opened without harm.

Nothing is decoded: sizes are read from headers, so that a picture of 50,000 by 50,000 pixels costs no memory here, and
is refused before anybody else opens it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import filetype
import mutagen
from PIL import Image, UnidentifiedImageError
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from gateway.errors import UnsupportedMediaError, ValidationError
from gateway.media.models import MediaKind

Image.MAX_IMAGE_PIXELS = None  # it would only warn of what lies between its limit and twice that
MOST_PIXELS = 100_000_000
"""Decoded, that is 400 MB. Cameras' largest pictures have as many."""

MOST_PAGES = 2000
MOST_FRAMES = 2000
LONGEST_MS = 24 * 3600 * 1000
HEAD_BYTES = 8192
TAIL_BYTES = 66 * 1024
"""The end of a ZIP archive, with the longest comment it may have."""

TYPES: dict[str, tuple[str, MediaKind, str]] = {
    "image/png": ("image/png", MediaKind.IMAGE, "png"),
    "image/apng": ("image/png", MediaKind.IMAGE, "png"),
    "image/jpeg": ("image/jpeg", MediaKind.IMAGE, "jpg"),
    "image/gif": ("image/gif", MediaKind.IMAGE, "gif"),
    "image/webp": ("image/webp", MediaKind.IMAGE, "webp"),
    "image/bmp": ("image/bmp", MediaKind.IMAGE, "bmp"),
    "image/tiff": ("image/tiff", MediaKind.IMAGE, "tiff"),
    "image/heic": ("image/heic", MediaKind.IMAGE, "heic"),
    "image/avif": ("image/avif", MediaKind.IMAGE, "avif"),
    "audio/aac": ("audio/aac", MediaKind.AUDIO, "aac"),
    "audio/mpeg": ("audio/mpeg", MediaKind.AUDIO, "mp3"),
    "audio/mp4": ("audio/mp4", MediaKind.AUDIO, "m4a"),
    "audio/ogg": ("audio/ogg", MediaKind.AUDIO, "ogg"),
    "audio/x-flac": ("audio/flac", MediaKind.AUDIO, "flac"),
    "audio/x-wav": ("audio/wav", MediaKind.AUDIO, "wav"),
    "audio/x-aiff": ("audio/aiff", MediaKind.AUDIO, "aiff"),
    "video/3gpp": ("video/3gpp", MediaKind.VIDEO, "3gp"),
    "video/mp4": ("video/mp4", MediaKind.VIDEO, "mp4"),
    "video/x-m4v": ("video/mp4", MediaKind.VIDEO, "mp4"),
    "video/x-matroska": ("video/x-matroska", MediaKind.VIDEO, "mkv"),
    "video/quicktime": ("video/quicktime", MediaKind.VIDEO, "mov"),
    "video/x-msvideo": ("video/x-msvideo", MediaKind.VIDEO, "avi"),
    "video/mpeg": ("video/mpeg", MediaKind.VIDEO, "mpeg"),
    "video/webm": ("video/webm", MediaKind.VIDEO, "webm"),
    "application/pdf": ("application/pdf", MediaKind.DOCUMENT, "pdf"),
}
"""By what `filetype` calls it: our MIME type, the kind, and the ending of its name in the storage."""

SAME_CONTAINER = (
    frozenset({"audio/mp4", "video/mp4", "video/quicktime", "video/3gpp"}),
    frozenset({"audio/webm", "video/webm", "video/x-matroska"}),
    frozenset({"audio/ogg", "video/ogg"}),
    frozenset({"audio/mpeg", "video/mpeg"}),
)
"""Containers of sound, of pictures, or of both: their first bytes do not say which."""

FOREIGN = (b"%PDF-", b"<!doctype", b"<html", b"<script", b"<svg", b"<?php")
"""What another program would take the same bytes for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a file; None is not known."""

    kind: MediaKind
    mime: str
    extension: str
    width: int | None = None
    height: int | None = None
    pages: int | None = None
    duration_ms: int | None = None


def inspect(path: Path, *, declared: str | None = None, param: str | None = None) -> Facts:
    """Say what the file at `path` is. Blocks; reads headers, and a PDF's catalogue.

    `declared` is the MIME type its sender gave. Raises `UnsupportedMediaError` where the content is another, and
    `ValidationError` for what is broken, is two things at once, or would grow beyond measure when opened.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        said = plain_mime(declared)
        found = filetype.guess(head)
        known = TYPES.get(found.mime) if found is not None else None
        if known is None:
            if _is_media(said):
                raise UnsupportedMediaError(f"The content is not {said}.", param=param)
            return _other(head, said)
        mime, kind, extension = known
        if said and said != "application/octet-stream" and not _agree(said, mime):
            raise UnsupportedMediaError(f"The content is {mime}, not {said}.", param=param)
        _refuse_two_in_one(file, head, mime=mime, param=param)
        try:
            return _measure(file, Facts(kind=kind, mime=mime, extension=extension), path=path)
        except _BrokenError as error:
            raise ValidationError(f"This {mime} cannot be used: {error}", param=param) from error


def sniff(path: Path) -> Facts:
    """Say what the file is without judging it, for what we were sold: it is kept whatever it is. Blocks."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        found = filetype.guess(head)
        known = TYPES.get(found.mime) if found is not None else None
        if known is None:
            return _other(head, "")
        mime, kind, extension = known
        facts = Facts(kind=kind, mime=mime, extension=extension)
        try:
            return _measure(file, facts, path=path)
        except _BrokenError:
            return facts


def plain_mime(declared: str | None) -> str:
    """A MIME type without its parameters, in lower case; empty where there is none."""
    return (declared or "").partition(";")[0].strip().lower()


class _BrokenError(Exception):
    """Why a file cannot be used, in a sentence."""


def _is_media(mime: str) -> bool:
    return mime.partition("/")[0] in ("audio", "video") or mime == "application/pdf" or _is_picture(mime)


def _is_picture(mime: str) -> bool:
    """SVG is text that a browser would run."""
    return mime.startswith("image/") and mime != "image/svg+xml"


def _agree(said: str, mime: str) -> bool:
    if said.partition("/")[0] == mime.partition("/")[0] and said != "application/pdf":
        # Names differ within a kind (audio/x-wav, audio/wave); another picture format than said is a lie.
        return not said.startswith("image/") or said.replace("jpg", "jpeg") == mime or said == "image/apng"
    return said == mime or any(said in group and mime in group for group in SAME_CONTAINER)


def _other(head: bytes, said: str) -> Facts:
    """Text, or what we know nothing about: never shown by a browser, so that it does not matter."""
    try:
        head[: HEAD_BYTES - 4].decode()  # a character may be cut off at the end
        is_text = b"\0" not in head
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        return Facts(kind=MediaKind.OTHER, mime="application/octet-stream", extension="bin")
    mime = said if said.startswith("text/") or said.endswith(("json", "jsonl", "xml")) else "text/plain"
    return Facts(kind=MediaKind.OTHER, mime=mime[:100], extension="txt")


def _refuse_two_in_one(file: BinaryIO, head: bytes, *, mime: str, param: str | None) -> None:
    """Refuse what is a picture, sound or film and something else at the same time."""
    start = head[:1024].lower()
    foreign = mime != "application/pdf" and any(mark.lower() in start for mark in FOREIGN)
    if foreign or _ends_as_zip(file):
        raise ValidationError(f"This {mime} is another kind of file at the same time.", param=param)


def _ends_as_zip(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL_BYTES))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        return False
    (comment,) = struct.unpack_from("<H", tail, at + 20)
    return bool(at + 22 + comment == len(tail))


def _measure(file: BinaryIO, facts: Facts, *, path: Path) -> Facts:
    if facts.kind == MediaKind.IMAGE:
        width, height = _picture_size(file, facts.mime)
        if width is not None and height is not None and width * height > MOST_PIXELS:
            raise _BrokenError(f"it has {width} x {height} pixels, and {MOST_PIXELS:,} are the most.")
        return replace(facts, width=width, height=height)
    if facts.kind == MediaKind.DOCUMENT:
        pages = _pages(path)
        if pages is not None and pages > MOST_PAGES:
            raise _BrokenError(f"it has {pages} pages, and {MOST_PAGES} are the most.")
        return replace(facts, pages=pages)
    duration_ms = _duration_ms(path)
    if duration_ms is not None and duration_ms > LONGEST_MS:
        raise _BrokenError("it lasts more than a day.")
    return replace(facts, duration_ms=duration_ms)


def _picture_size(file: BinaryIO, mime: str) -> tuple[int | None, int | None]:
    file.seek(0)
    if mime == "image/webp":
        return _webp_size(file.read(30))  # Pillow would make room for all of it when it opens one
    if mime in ("image/avif", "image/heic"):
        return _heif_size(file.read(64 * 1024))
    try:
        with Image.open(file, formats=["PNG", "JPEG", "GIF", "BMP", "TIFF"]) as image:
            width, height = image.size
            frames = getattr(image, "n_frames", 1) if mime == "image/png" else 1
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error) as error:
        raise _BrokenError("it is broken.") from error
    if mime == "image/gif":
        frames = _gif_frames(file)
    if frames > MOST_FRAMES:
        raise _BrokenError(f"it has more than {MOST_FRAMES} frames.")
    return width, height


def _webp_size(head: bytes) -> tuple[int, int]:
    form = head[12:16]
    if form == b"VP8X" and len(head) >= 30:
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if form == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"VP8 " and len(head) >= 30:
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise _BrokenError("it is broken.")


def _heif_size(head: bytes) -> tuple[int | None, int | None]:
    """The largest of the sizes that its properties name."""
    largest: tuple[int | None, int | None] = (None, None)
    at = head.find(b"ispe")
    while 0 <= at <= len(head) - 16:
        width, height = struct.unpack_from(">II", head, at + 8)
        if largest[0] is None or largest[1] is None or width * height > largest[0] * largest[1]:
            largest = (width, height)
        at = head.find(b"ispe", at + 4)
    return largest


def _gif_frames(file: BinaryIO) -> int:
    """How many frames a GIF has, counted no further than `MOST_FRAMES`. Pillow would count ten million of them."""
    file.seek(10)
    flags = file.read(3)
    _skip_colours(file, flags[:1])
    frames = 0
    while frames <= MOST_FRAMES:
        mark = file.read(1)
        if mark == b",":
            frames += 1
            description = file.read(9)
            _skip_colours(file, description[8:9])
            file.read(1)
        elif mark == b"!":
            file.read(1)
        else:
            break
        while length := int.from_bytes(file.read(1), "little"):
            file.seek(length, 1)
    return frames


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 7) + 1), 1)


def _pages(path: Path) -> int | None:
    """What the PDF's catalogue says; None for one that is encrypted."""
    try:
        with path.open("rb") as file:
            reader = PdfReader(file)
            if reader.is_encrypted:
                return None
            count = reader.root_object["/Pages"]["/Count"]  # type: ignore[index]
            return int(count)
    except (PyPdfError, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _BrokenError("it is broken.") from error


def _duration_ms(path: Path) -> int | None:
    """How long sound or a film lasts, where its headers tell."""
    try:
        found = mutagen.File(path)
    except (mutagen.MutagenError, OSError, ValueError, struct.error, IndexError):
        return None
    length = getattr(getattr(found, "info", None), "length", None)
    return round(length * 1000) if length else None
