"""What the mock's voice is made of: 24 kHz, mono, 16 bits, little-endian."""

from __future__ import annotations

import array
import math
import sys

RATE = 24_000
BYTES_PER_SECOND = 2 * RATE
LOUD = 500
"""Of 32,767: a microphone in a quiet room stays below."""

_PITCH = 440
_STRENGTH = 6000
_LOOKED_AT = 16
"""Every sixteenth sample says as well as all of them how loud a voice is."""


def tone(duration_ms: int) -> bytes:
    """A tone of so many milliseconds."""
    count = RATE * duration_ms // 1000
    samples = array.array("h", (int(_STRENGTH * math.sin(2 * math.pi * _PITCH * at / RATE)) for at in range(count)))
    return _little_endian(samples).tobytes()


def is_loud(audio: bytes) -> bool:
    """Whether anybody speaks in it."""
    samples = array.array("h")
    samples.frombytes(audio[: len(audio) // 2 * 2])
    return max(map(abs, _little_endian(samples)[::_LOOKED_AT]), default=0) > LOUD


def _little_endian(samples: array.array[int]) -> array.array[int]:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
