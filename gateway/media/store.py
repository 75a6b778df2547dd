"""The storage as one process holds it: threads of its own, since Django's storages and disks block."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.media.config import MediaConfig
from gateway.media.errors import StorageUnavailableError

logger = logging.getLogger(__name__)

THREADS = 16
"""Not the loop's own, which look up names: a bucket that does not answer must not keep calls from their providers."""

Result = TypeVar("Result")


class FileStore:
    """Runs what blocks."""

    def __init__(self, config: MediaConfig) -> None:
        self.config = config
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do it in a thread. Raises `StorageUnavailableError` for an `OSError`, but for a missing file itself."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, functools.partial(work, *arguments))
        except FileNotFoundError:
            raise
        except OSError as error:
            logger.error("media.storage_failed", extra={"reason": str(error)[:500]})
            raise StorageUnavailableError from error

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)
