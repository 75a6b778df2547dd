"""Files in a bucket of S3, or of whatever speaks its protocol."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage

from gateway.media.backends import TENANTS_FOLDER, Reader

NOT_THERE = {"404", "NoSuchKey", "NotFound"}


@contextmanager
def _os_errors() -> Iterator[None]:
    """What boto raises, as callers of a backend expect it."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        kind = FileNotFoundError if code in NOT_THERE else OSError
        raise kind(f"S3 answered {code or 'an error'}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise OSError(f"S3 cannot be reached: {type(error).__name__}") from error


class S3MediaStorage(S3Storage):
    """A bucket. Nobody can list or read it but by a signed URL."""

    def get_default_settings(self) -> dict[str, Any]:
        """Parts of 8 MiB, two at a time: ten, as boto would, take 80 MiB."""
        transfer = TransferConfig(max_concurrency=2, multipart_chunksize=8 * 1024 * 1024)
        return {**super().get_default_settings(), "transfer_config": transfer}

    def save_file(self, name: str, path: Path, *, mime: str) -> None:
        with _os_errors():
            self.bucket.Object(self._key(name)).upload_file(
                str(path), ExtraArgs={"ContentType": mime}, Config=self.transfer_config
            )

    def open_range(self, name: str, start: int, *, end: int) -> Reader:
        if start >= end:
            return _Nothing()
        with _os_errors():
            answer = self.bucket.Object(self._key(name)).get(Range=f"bytes={start}-{end - 1}")
        return _Body(answer["Body"])

    def delete(self, name: str) -> None:
        with _os_errors():
            super().delete(name)

    def walk(self) -> Iterator[tuple[str, dt.datetime]]:
        prefix = self._key(f"{TENANTS_FOLDER}/")
        with _os_errors():
            for found in self.bucket.objects.filter(Prefix=prefix):
                yield found.key[len(prefix) - len(TENANTS_FOLDER) - 1 :], found.last_modified

    def direct_url(self, name: str, *, seconds: int, headers: dict[str, str]) -> str | None:
        with _os_errors():
            return str(self.url(name, parameters=headers, expire=seconds))

    def _key(self, name: str) -> str:
        return f"{self.location.strip('/')}/{name}" if self.location else name


class _Body:
    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int, /) -> bytes:
        with _os_errors():
            return bytes(self._body.read(size))

    def close(self) -> None:
        self._body.close()


class _Nothing:
    def read(self, size: int, /) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is held."""
