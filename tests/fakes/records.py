"""What a fake provider writes down: one record per request received, kept in memory and, when asked, as JSON lines."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson


@dataclass
class Record:
    """One request as the provider saw it, and what the provider did about it.

    `headers` has lower-case names, repeated ones joined with ", ". Times are Unix seconds. `completed`: the whole
    intended answer was handed to the network. `client_left`: the peer closed first (never set when the fake itself
    dropped the connection or was stopped). `text_sent` is choice 0 only. `usage_sent` is the usage object the client
    was given, None when it was never sent (or inside scripted raw bytes). `produced` counts tokens sent so far by the
    fake's usage rule, usage sent or not: what a provider that stops billing on disconnect would charge. It and
    `text_sent` are written when the answer is held and when it ends.
    """

    request_id: str
    method: str
    path: str
    headers: dict[str, str]
    raw_body: bytes
    received_at: float
    body: Any = None
    id: str = ""
    model: str = ""
    status: int = 0
    stream: bool = False
    held: bool = False
    completed: bool = False
    client_left: bool = False
    events_sent: int = 0
    text_sent: str = ""
    usage_sent: dict[str, Any] | None = None
    produced: dict[str, int] = field(default_factory=lambda: {"prompt_tokens": 0, "completion_tokens": 0})
    ended_at: float | None = None

    def as_json(self) -> bytes:
        """The record as one JSON line without its newline; `raw_body` as text."""
        row = asdict(self)
        row["raw_body"] = self.raw_body.decode("utf-8", "replace")
        return orjson.dumps(row)


@dataclass(frozen=True)
class Counters:
    """Requests received ever, answers under way now, streams open now and at most, answers held by their script now."""

    requests: int
    in_flight: int
    open_streams: int
    peak_open_streams: int
    held: int


class RequestLog:
    """Thread-safe list of records. The server's thread writes, tests read and wait."""

    def __init__(self, file: Path | None = None) -> None:
        self._changed = threading.Condition()
        self._records: list[Record] = []
        self._in_flight = self._open_streams = self._peak_open_streams = self._held = 0
        self._file = file.open("ab", buffering=0) if file else None

    @property
    def records(self) -> list[Record]:
        """All records in order of arrival; those still being answered too."""
        with self._changed:
            return list(self._records)

    @property
    def counters(self) -> Counters:
        with self._changed:
            return Counters(
                len(self._records), self._in_flight, self._open_streams, self._peak_open_streams, self._held
            )

    def opened(self, record: Record) -> None:
        with self._changed:
            self._records.append(record)
            self._in_flight += 1
            self._changed.notify_all()

    def stream_opened(self, record: Record) -> None:
        with self._changed:
            record.stream = True
            self._open_streams += 1
            self._peak_open_streams = max(self._peak_open_streams, self._open_streams)
            self._changed.notify_all()

    def progressed(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def held(self, record: Record, is_held: bool) -> None:
        with self._changed:
            self._held += is_held - record.held
            record.held = is_held
            self._changed.notify_all()

    def ended(self, record: Record) -> None:
        self.held(record, False)
        with self._changed:
            record.ended_at = time.time()
            self._in_flight -= 1
            self._open_streams -= record.stream
            if self._file:
                self._file.write(record.as_json() + b"\n")
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[list[Record]], bool], timeout_seconds: float = 30.0) -> list[Record]:
        """Block until `condition(records)` holds and return them; TimeoutError, showing the log, if it never does.

        In a coroutine call it through `asyncio.to_thread`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self._records), timeout_seconds):
                seen = "\n".join(record.as_json().decode() for record in self._records)
                raise TimeoutError(f"not seen within {timeout_seconds} s; the fake's log:\n{seen}")
            return list(self._records)

    def clear(self) -> None:
        """Forget all records. One still under way ends unseen: its client may have had its answer long ago."""
        with self._changed:
            self._records = []

    def close(self) -> None:
        if self._file:
            self._file.close()
