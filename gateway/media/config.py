"""What the storage of files is told when a gateway is built."""

from __future__ import annotations

import datetime as dt
import tempfile
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

ALIAS = "media_gateway"
"""Of Django's STORAGES: where new files go."""


@dataclass(frozen=True, kw_only=True)
class MediaConfig:
    """`gateway.settings` documents each."""

    public_url: str = "http://127.0.0.1:5005"
    signing_secret: bytes = b""
    spool_dir: Path = Path(tempfile.gettempdir())
    file_limit_bytes: int = 512 * 1024 * 1024
    quota_bytes: int = 10 * 1024**3
    uploads_kept: dt.timedelta = dt.timedelta(days=7)
    generated_kept: dt.timedelta = dt.timedelta(days=1)
    redirects: bool = False
    """Whether pictures, sound, video and PDF are fetched from S3 itself."""
    fetch_private_hosts: frozenset[str] = frozenset()
    """Hosts, each with its port, that clients' URLs may name although they are private; also by plain http."""

    @classmethod
    def from_settings(cls) -> MediaConfig:
        """The configuration of this process."""
        return cls(
            public_url=settings.PUBLIC_URL,
            signing_secret=settings.SECRET_KEY.encode(),
            spool_dir=settings.MEDIA_SPOOL_DIR,
            file_limit_bytes=settings.MEDIA_FILE_LIMIT_BYTES,
            quota_bytes=settings.MEDIA_QUOTA_BYTES,
            uploads_kept=dt.timedelta(hours=settings.MEDIA_UPLOADS_KEPT_HOURS),
            generated_kept=dt.timedelta(hours=settings.MEDIA_GENERATED_KEPT_HOURS),
            redirects=settings.MEDIA_S3_REDIRECTS,
            fetch_private_hosts=settings.MEDIA_FETCH_PRIVATE_HOSTS,
        )
