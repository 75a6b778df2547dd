"""One JSON object a line, from bytes and without I/O: any split of the bytes gives the same lines."""

from __future__ import annotations

from providers.errors import Failure, ProviderError

LINE_LIMIT_BYTES = 16 * 1024 * 1024
"""A line longer than this is a fault, not an answer; the longest honest one is a picture in base64."""


class JsonLineDecoder:
    """Collects bytes and returns each line that is complete, empty ones left out. It does not read the JSON."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; raises `ProviderError` when a line outgrows `LINE_LIMIT_BYTES`."""
        lines = (self._tail + data if self._tail else data).split(b"\n")
        self._tail = lines.pop()
        if len(self._tail) > LINE_LIMIT_BYTES:
            raise ProviderError(Failure.BROKEN, f"The provider sent a line of over {LINE_LIMIT_BYTES} bytes.")
        return [line for line in lines if line.strip()]
