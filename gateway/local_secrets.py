"""Secrets of a platform that was given none: made once, kept in the data folder, readable by its owner only."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def local_secret(data_dir: Path, name: str) -> str:
    """Return 32 random bytes in base64 that stay the same for this data folder."""
    return kept_text(data_dir, name, make=lambda: base64.b64encode(secrets.token_bytes(32)).decode())


def kept_text(data_dir: Path, name: str, *, make: Callable[[], str]) -> str:
    """Return what `make` made when this data folder was first asked for this name.

    Two processes may ask at once: the file appears whole under its name, and whoever is second reads the first one's.
    """
    path = data_dir / "secrets" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{name}.{os.getpid()}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(make())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first
        finally:
            draft.unlink()
    return path.read_text()
