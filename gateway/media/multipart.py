"""Forms with files (`multipart/form-data`), read as they come: files go to disk, and nothing is held in memory.

    class TranscriptionsView(DataPlaneView):
        form_limits = FormLimits(files=1)

        async def post(self, request):
            form = request.form
            model, file = form.text("model"), form.file("file")

The base view reads the form after it has looked at the key, and closes it when the request is answered: `keep` what is
to live longer. Parts may come in any order. `name[]` is the same as `name`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.utils.http import parse_header_parameters

from gateway.errors import PayloadTooLargeError, ValidationError
from gateway.media.inspection import plain_mime
from gateway.media.spool import Spooled

if TYPE_CHECKING:
    from gateway.handler import DataPlaneRequest

LONGEST_BOUNDARY = 70
"""By RFC 2046."""

PREAMBLE_BYTES = 4096
HEADER_BYTES = 8192
OVERHEAD_BYTES = 256 * 1024
"""Boundaries and headers of all parts."""

PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """How much a form may hold."""

    files: int = 1
    file_bytes: int | None = None
    """Each; None: MEDIA_FILE_LIMIT_BYTES."""
    in_memory: bool = False
    """Whether its endpoint holds them in memory: together they may then be as long as any other body."""
    fields: int = 100
    field_bytes: int = 1024 * 1024
    """All fields together: they are held in memory."""

    @property
    def overhead_bytes(self) -> int:
        """How much longer than its files a form may be."""
        return self.field_bytes + OVERHEAD_BYTES


@dataclass(slots=True)
class FormFile:
    """A file of a form, on disk."""

    name: str
    """The field's."""
    filename: str
    """As the client calls it, without folders."""
    mime: str
    """As the client says."""
    content: Spooled


@dataclass(slots=True)
class Form:
    """What a form held."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[FormFile] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """A field that may be given once; None where it is not. Raises `ValidationError`."""
        found = self.texts(name)
        if len(found) > 1:
            raise ValidationError(f"{name} may be given once.", param=name)
        return found[0] if found else None

    def texts(self, name: str) -> list[str]:
        """Every value of a field, in order."""
        return [text for given, text in self.fields if given in (name, f"{name}[]")]

    def files_named(self, name: str) -> list[FormFile]:
        """Every file of a field, in order."""
        return [file for file in self.files if file.name in (name, f"{name}[]")]

    def file(self, name: str) -> FormFile:
        """A file that must be given once. Raises `ValidationError`."""
        found = self.files_named(name)
        if len(found) != 1:
            given = " and may be given once" if found else ", as a file with a filename"
            raise ValidationError(f"{name} is required{given}.", param=name)
        return found[0]

    def digest(self) -> bytes:
        """What the form holds, in short. Each retry of a client has another boundary, and the same digest."""
        digest = hashlib.sha256()
        for name, text in self.fields:
            digest.update(f"field:{len(name)}:{name}:{len(text)}:{text}\n".encode())
        for file in self.files:
            digest.update(f"file:{len(file.name)}:{file.name}:{len(file.filename)}:{file.filename}:".encode())
            digest.update(f"{file.mime}:{file.content.sha256}\n".encode())
        return digest.digest()

    def close(self) -> None:
        """Delete its files from disk, unless a storage has them now."""
        for file in self.files:
            file.content.close()


@asynccontextmanager
async def reading_form(request: DataPlaneRequest, limits: FormLimits) -> AsyncIterator[Form]:
    """Read a request's form, and have it until the end of the block.

    Raises `ValidationError` for what is no form, `PayloadTooLargeError` beyond the limits, and `ClientLeft`.
    """
    assert request.form_stream is not None
    store = request.gateway.files
    file_bytes = store.config.file_limit_bytes if limits.file_bytes is None else limits.file_bytes
    files_bytes = request.gateway.config.body_limit_bytes if limits.in_memory else file_bytes * limits.files
    most = files_bytes + limits.overhead_bytes
    said = request.META.get("CONTENT_LENGTH", "")
    if said.isascii() and said.isdigit() and int(said[:20]) > most:
        raise PayloadTooLargeError(most)
    form = Form()
    try:
        parts = Parts(request.form_stream.next, boundary_of(request.META.get("CONTENT_TYPE", "")))
        text_bytes = 0
        while part := await parts.next():
            if part.filename is None:
                text_bytes += await _add_field(form, part, limits=limits, left=limits.field_bytes - text_bytes)
                continue
            if len(form.files) >= limits.files:
                raise ValidationError(f"This form may have {limits.files} files at most.", param=part.name)
            left = files_bytes - sum(file.content.size_bytes for file in form.files)
            content = Spooled(store, limit_bytes=min(file_bytes, left))
            form.files.append(FormFile(part.name, part.filename, part.mime, content))
            while piece := await part.next():
                await content.write(piece)
            await content.flush()
        yield form
    finally:
        form.close()


async def _add_field(form: Form, part: Part, *, limits: FormLimits, left: int) -> int:
    if len(form.fields) >= limits.fields:
        raise ValidationError(f"This form may have {limits.fields} fields at most.", param=part.name)
    value = bytearray()
    while piece := await part.next():
        value += piece
        if len(value) > left:
            raise PayloadTooLargeError(limits.field_bytes, what="text of the form", param=part.name)
    try:
        form.fields.append((part.name, value.decode()))
    except UnicodeDecodeError as error:
        raise ValidationError(f"{part.name} is not valid UTF-8.", param=part.name) from error
    return len(value) + len(part.name)


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names. Raises `ValidationError`."""
    _, parameters = parse_header_parameters(content_type)
    boundary = parameters.get("boundary", "")
    if not 0 < len(boundary) <= LONGEST_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise ValidationError(f"A form's boundary has 1 to {LONGEST_BOUNDARY} ASCII characters.", param="Content-Type")
    return boundary.encode()


@dataclass(slots=True)
class Part:
    """One part of a form. Read it to its end before the next."""

    name: str
    filename: str | None
    mime: str
    next: Callable[[], Awaitable[bytes]]
    """The next piece; empty at the end."""


class Parts:
    """Cuts a body at its boundaries, whatever way its pieces were cut."""

    def __init__(self, read: Callable[[], Awaitable[bytes]], boundary: bytes) -> None:
        self._read = read
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that the first boundary is found as all others are
        self._in_part = True
        """The preamble is one, which nobody reads."""

    async def next(self) -> Part | None:
        """The next part; None after the last. Raises `ValidationError` for what is no form."""
        skipped = 0
        while self._in_part:
            skipped += len(await self._piece())
            if skipped > PREAMBLE_BYTES:
                raise ValidationError("The body does not begin with the boundary that Content-Type names.")
        if await self._was_last():
            return None
        self._buffer[:0] = b"\r\n"  # headers end with an empty line, also where there are none
        return _part(await self._header_lines(), self._next_piece)

    async def _header_lines(self) -> list[str]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEADER_BYTES:
                raise ValidationError("A part of the form has too many headers.")
            await self._fill()
        if end > HEADER_BYTES:
            raise ValidationError("A part of the form has too many headers.")
        lines = bytes(self._buffer[:end]).decode("utf-8", "replace").split("\r\n")
        del self._buffer[: end + 4]
        self._in_part = True
        return lines

    async def _next_piece(self) -> bytes:
        while self._in_part:
            if piece := await self._piece():
                return piece
        return b""

    async def _piece(self) -> bytes:
        """What is certain to be of this part; afterwards `_in_part` says whether more may come."""
        at = self._buffer.find(self._delimiter)
        if at >= 0:
            piece = bytes(self._buffer[:at])
            del self._buffer[: at + len(self._delimiter)]
            self._in_part = False
            return piece
        certain = len(self._buffer) - len(self._delimiter) + 1
        if certain > 0:
            piece = bytes(self._buffer[:certain])
            del self._buffer[:certain]
            return piece
        await self._fill()
        return b""

    async def _was_last(self) -> bool:
        """Whether the boundary just found ends the form; else the rest of its line is skipped."""
        while len(self._buffer) < 2:
            await self._fill()
        if self._buffer[:2] == b"--":
            return True
        while (end := self._buffer.find(b"\r\n")) < 0 and len(self._buffer) < HEADER_BYTES:
            await self._fill()
        if end < 0 or self._buffer[:end].strip():  # some programs put blanks there
            raise ValidationError("A boundary of the form is followed by something else.")
        del self._buffer[: end + 2]
        return False

    async def _fill(self) -> None:
        piece = await self._read()
        if not piece:
            raise ValidationError("The form ends before its last boundary.")
        self._buffer += piece


def _part(lines: list[str], read: Callable[[], Awaitable[bytes]]) -> Part:
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    kind, parameters = parse_header_parameters(headers.get("content-disposition", ""))
    name = parameters.get("name", "")
    if kind != "form-data" or not name or len(name) > 256:
        raise ValidationError("Each part of a form needs Content-Disposition: form-data with a name.")
    if headers.get("content-transfer-encoding", "").lower() not in PLAIN_ENCODINGS:
        raise ValidationError(f"{name} is encoded; send it as it is.", param=name)
    filename = parameters.get("filename")
    mime = plain_mime(headers.get("content-type"))
    return Part(name, None if filename is None else base_name(filename), mime, read)


def base_name(filename: str) -> str:
    """A client's file name without its folders and without what no screen shows; no path is ever made of it."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in last if character.isprintable())[:255]
