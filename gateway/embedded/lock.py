"""One platform per data folder: an exclusive lock that the kernel drops when its holder dies, however it dies."""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType


class FolderInUseError(Exception):
    """Another live process holds the folder; `pid` and `url` are what it wrote down, None while it has not yet."""

    def __init__(self, pid: int | None, url: str | None) -> None:
        super().__init__(f"in use by process {pid}")
        self.pid = pid
        self.url = url


class FolderLock:
    """Context manager that holds `path` locked and tells others who holds it."""

    def __init__(self, path: Path, url: str) -> None:
        self._path = path
        self._url = url

    def __enter__(self) -> "FolderLock":
        """Raises FolderInUseError at once when it is held."""
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise _in_use(self._path) from None
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "url": self._url}))
        self._file.flush()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let two processes lock two files of one name.
        self._file.truncate(0)
        self._file.close()


def _in_use(path: Path) -> FolderInUseError:
    try:
        holder = json.loads(path.read_text())
    except ValueError:  # locked, not yet written
        return FolderInUseError(None, None)
    return FolderInUseError(holder["pid"], holder["url"])
