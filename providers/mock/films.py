"""A valid MP4, made of a text: one picture a second, each a PNG in the container."""

from __future__ import annotations

import struct

from providers.mock.pictures import sample_png

TIMESCALE = 1000
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
TRACK_ENABLED = 7


def sample_mp4(width: int, height: int, *, seconds: int, source: str) -> bytes:
    """A film of `seconds` frames that lasts as long. `ftyp`, `moov`, `mdat`, in this order: it can be streamed."""
    frames = [sample_png(width, height, source=f"{source} {number}") for number in range(seconds)]
    kind = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2mp41")
    length = len(_movie(frames, width, height=height, start=0))
    start = len(kind) + length + 8
    return kind + _movie(frames, width, height=height, start=start) + _box(b"mdat", *frames)


def _movie(frames: list[bytes], width: int, *, height: int, start: int) -> bytes:
    """All that is said about the frames, which begin at `start` in the file."""
    duration = len(frames) * TIMESCALE
    head = struct.pack(">IIIIIIHHII", 0, 0, 0, TIMESCALE, duration, 0x10000, 0x0100, 0, 0, 0)
    movie_head = _box(b"mvhd", head, MATRIX, bytes(24), struct.pack(">I", 2))
    track_head = _box(
        b"tkhd",
        struct.pack(">IIIIIIIIhhhH", TRACK_ENABLED, 0, 0, 1, 0, duration, 0, 0, 0, 0, 0, 0),
        MATRIX,
        struct.pack(">II", width << 16, height << 16),
    )
    media_head = _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, TIMESCALE, duration, 0x55C4, 0))
    handler = _box(b"hdlr", bytes(8), b"vide", bytes(12), b"frames\0")
    places = _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), _box(b"url ", struct.pack(">I", 1))))
    table = _table(frames, width, height=height, start=start)
    information = _box(b"minf", _box(b"vmhd", struct.pack(">IHHHH", 1, 0, 0, 0, 0)), places, table)
    return _box(b"moov", movie_head, _box(b"trak", track_head, _box(b"mdia", media_head, handler, information)))


def _table(frames: list[bytes], width: int, *, height: int, start: int) -> bytes:
    entry = _box(
        b"png ",
        bytes(6),
        struct.pack(">H", 1),
        bytes(16),
        struct.pack(">HHIIIH", width, height, 0x480000, 0x480000, 0, 1),
        bytes(32),
        struct.pack(">Hh", 24, -1),
    )
    count = len(frames)
    return _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), entry),
        _box(b"stts", struct.pack(">IIII", 0, 1, count, TIMESCALE)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, count, 1)),
        _box(b"stsz", struct.pack(f">III{count}I", 0, 0, count, *map(len, frames))),
        _box(b"stco", struct.pack(">III", 0, 1, start)),
    )


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content
