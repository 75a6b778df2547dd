"""Where files' bytes are: Django's storages, with what streaming and sweeping need besides.

A backend raises `OSError` for everything that can go wrong with it, `FileNotFoundError` where there is no such file.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from django.core.files import File
from django.core.files.storage import FileSystemStorage, storages

TENANTS_FOLDER = "t"
"""Files are under `t/TENANT/YEAR/MONTH/`, so that one prefix is one tenant."""


class Reader(Protocol):
    """Bytes of a stored file."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class Backend(Protocol):
    """What `gateway.media` asks of a storage."""

    def save_file(self, name: str, path: Path, *, mime: str) -> None:
        """Store the file at `path` under exactly this name. It may be moved from there."""
        ...

    def open_range(self, name: str, start: int, *, end: int) -> Reader:
        """The bytes from `start` to before `end`."""
        ...

    def delete(self, name: str) -> None:
        """Delete it; one that is not there is no error."""
        ...

    def walk(self) -> Iterator[tuple[str, dt.datetime]]:
        """Name and time of every tenant's file."""
        ...

    def direct_url(self, name: str, *, seconds: int, headers: dict[str, str]) -> str | None:
        """A URL of its own that serves the file for so long, with these response headers; None where it has none."""
        ...


class LocalMediaStorage(FileSystemStorage):
    """A folder of this machine, or one that all machines share."""

    def save_file(self, name: str, path: Path, *, mime: str) -> None:
        with path.open("rb") as content:
            saved = self.save(name, _Movable(content, path))
        if saved != name:
            raise FileExistsError(f"{name} is there already")

    def open_range(self, name: str, start: int, *, end: int) -> Reader:
        content = Path(self.path(name)).open("rb")  # noqa: SIM115 -- whoever reads closes it
        content.seek(start)
        return _Limited(content, end - start)

    def walk(self) -> Iterator[tuple[str, dt.datetime]]:
        for folder, _, files in os.walk(self.path(TENANTS_FOLDER)):
            for file in files:
                path = Path(folder, file)
                try:
                    modified = path.stat().st_mtime
                except FileNotFoundError:
                    continue  # it has just been deleted
                yield str(path.relative_to(self.location)), dt.datetime.fromtimestamp(modified, dt.UTC)

    def direct_url(self, name: str, *, seconds: int, headers: dict[str, str]) -> str | None:
        return None


class _Movable(File):
    """A file that is moved into the storage's folder instead of copied, where that is on the same disk."""

    def __init__(self, content: BinaryIO, path: Path) -> None:
        super().__init__(content)
        self._path = path

    def temporary_file_path(self) -> str:
        return str(self._path)


class _Limited:
    def __init__(self, content: BinaryIO, size: int) -> None:
        self._content = content
        self._left = size

    def read(self, size: int, /) -> bytes:
        piece = self._content.read(min(size, self._left))
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._content.close()


def backend(alias: str) -> Backend:
    """The storage with this alias. Raises `OSError` for one that the settings do not have any more."""
    try:
        found: Any = storages[alias]
    except KeyError as error:
        raise OSError(f"STORAGES has no {alias!r}") from error
    return cast(Backend, found)
