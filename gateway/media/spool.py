"""Bytes on their way, on disk: neither an upload nor a film is ever held in memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import PayloadTooLargeError
from gateway.media.errors import StorageUnavailableError

if TYPE_CHECKING:
    from gateway.media.store import FileStore

PIECE_BYTES = 256 * 1024
"""Written and read at once: fewer ways to a thread and back than pieces of a socket."""


class Spooled:
    """A temporary file with its digest. Whoever has it closes it; then it is gone."""

    def __init__(self, store: FileStore, *, limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self.size_bytes = 0
        folder = store.config.spool_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, path = tempfile.mkstemp(dir=folder, prefix="spool-")
        except OSError as error:
            raise StorageUnavailableError("There is no room for files at the moment.") from error
        self._file = os.fdopen(descriptor, "w+b")
        self.path = Path(path)

    async def write(self, piece: bytes | memoryview) -> None:
        """Add bytes. Raises `PayloadTooLargeError` beyond the limit."""
        self.size_bytes += len(piece)
        if self.size_bytes > self._limit_bytes:
            raise PayloadTooLargeError(self._limit_bytes, what="file")
        self._waiting += piece
        if len(self._waiting) >= PIECE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Have everything on disk that was written."""
        if self._waiting:
            waiting, self._waiting = self._waiting, bytearray()
            await self._store.run(self._put, waiting)
        await self._store.run(self._file.flush)

    def _put(self, piece: bytearray) -> None:
        self._digest.update(piece)
        self._file.write(piece)

    @property
    def sha256(self) -> str:
        """Of everything that was flushed."""
        return self._digest.hexdigest()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What was written, from its beginning. Also after the file has been kept."""
        await self.flush()
        at = 0
        while piece := await self._store.run(os.pread, self._file.fileno(), PIECE_BYTES, at):
            at += len(piece)
            yield piece

    async def read(self) -> bytes:
        """All of it in memory: only for what is known to be small."""
        return b"".join([piece async for piece in self.chunks()])

    def close(self) -> None:
        """Let go of it, and of the file unless the storage has it now."""
        self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def spool(
    store: FileStore, chunks: AsyncIterator[bytes] | bytes, *, limit_bytes: int | None = None
) -> AsyncIterator[Spooled]:
    """Write a stream to disk, and have it until the end of the block.

    Raises `PayloadTooLargeError` beyond the limit, `StorageUnavailableError` without a disk.
    """
    spooled = Spooled(store, limit_bytes=store.config.file_limit_bytes if limit_bytes is None else limit_bytes)
    try:
        if isinstance(chunks, bytes):
            await spooled.write(chunks)
        else:
            async for piece in chunks:
                await spooled.write(piece)
        await spooled.flush()
        yield spooled
    finally:
        spooled.close()
