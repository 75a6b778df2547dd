"""How much memory a process takes at most."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ALLOWED_BYTES = 30_000_000


@dataclass
class Growth:
    bytes: int = 0


@contextmanager
def growth_of(pid: int) -> Iterator[Growth]:
    """By how much the process's resident memory grows at most within the block: the kernel's high-water mark."""
    process = Path(f"/proc/{pid}")
    (process / "clear_refs").write_text("5")  # the mark begins anew
    before = _high_water(process)
    growth = Growth()
    yield growth
    growth.bytes = _high_water(process) - before


def _high_water(process: Path) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
    assert found is not None
    return int(found[1]) * 1024
