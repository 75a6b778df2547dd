"""A valid PNG of any size, made of a text: equal text, equal picture."""

from __future__ import annotations

import hashlib
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BANDS = 8


def sample_png(width: int, height: int, *, source: str) -> bytes:
    """Horizontal bands in colours made of a hash of `source`. Small in bytes, whatever its size in pixels."""
    colours = hashlib.shake_256(source.encode()).digest(3 * BANDS)
    packer = zlib.compressobj(9)
    rows = []
    for row in range(height):
        band = row * BANDS // height
        rows.append(packer.compress(b"\0" + colours[3 * band : 3 * band + 3] * width))
    rows.append(packer.flush())
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", b"".join(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
