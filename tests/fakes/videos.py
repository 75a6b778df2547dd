"""Videos at fake providers: made in a few polls, by what the prompt says.

`never` in it: it goes on for ever. `fail`: it fails. `stubborn`: it cannot be cancelled. `soon`: done at the first
poll, others at the second.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field

_numbers = itertools.count(1)


@dataclass
class FakeVideo:
    """One video."""

    model: str
    prompt: str
    seconds: int
    size: str = "720x1280"
    number: int = field(default_factory=lambda: next(_numbers))
    polls: int = 0
    state: str = "queued"

    def poll(self) -> None:
        """Somebody asks; it goes on."""
        self.polls += 1
        if self.state in ("queued", "in_progress"):
            done = self.polls >= (1 if "soon" in self.prompt else 2) and "never" not in self.prompt
            self.state = ("failed" if "fail" in self.prompt else "completed") if done else "in_progress"

    def cancel(self) -> bool:
        """Whether it can be, and is."""
        if "stubborn" in self.prompt or self.state in ("completed", "failed"):
            return False
        self.state = "cancelled"
        return True

    @property
    def content(self) -> bytes:
        """An MP4 as far as anybody looks."""
        return struct.pack(">I", 24) + b"ftypisom\0\0\2\0isommp42" + struct.pack(">I", 8 + 64) + b"mdat" + bytes(64)
