"""Server-sent events from bytes, without I/O: any split of the bytes gives the same events."""

from __future__ import annotations

from providers.errors import Failure, ProviderError

EVENT_LIMIT_BYTES = 16 * 1024 * 1024
"""An event longer than this is a fault, not an answer; the longest honest one is a picture in base64."""


class SseDecoder:
    """Collects bytes and returns the `data` of each event that is complete."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; raises `ProviderError` when an event outgrows `EVENT_LIMIT_BYTES`."""
        if self._tail:
            data = self._tail + data
        held = b""
        if b"\r" in data:
            if data.endswith(b"\r"):
                data, held = data[:-1], b"\r"  # its \n may be in the next bytes
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = data.split(b"\n\n")
        self._tail = events.pop() + held
        if len(self._tail) > EVENT_LIMIT_BYTES:
            raise ProviderError(Failure.BROKEN, f"The provider sent an event of over {EVENT_LIMIT_BYTES} bytes.")
        found = []
        for event in events:
            if event.startswith(b"data: ") and b"\n" not in event:
                found.append(event[6:])
            else:
                payload = _named_event_data(event) or _event_data(event)
                if payload is not None:
                    found.append(payload)
        return found


def _named_event_data(event: bytes) -> bytes:
    """The data of an event of two lines, its name and its data, as most named ones are; empty for another."""
    if not event.startswith(b"event: "):
        return b""
    end_of_name = event.find(b"\n")
    two_lines = event.find(b"\n", end_of_name + 1) < 0
    return event[end_of_name + 7 :] if two_lines and event.startswith(b"\ndata: ", end_of_name) else b""


def _event_data(event: bytes) -> bytes | None:
    """Join the data lines of one event; None for comments and events without data."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
