"""What the fake is told to answer: `Script`, one answer; `ScriptBook`, which request gets which."""

import threading
from dataclasses import dataclass, field
from typing import Any, Literal

# hold: wait until released · close: end the connection in the middle of the body · reset: the same with a TCP reset
# end: end the body cleanly, no [DONE] · error: an error event, then a clean end · insert: put `fault_bytes` in, go on
Fault = Literal["hold", "close", "reset", "end", "error", "insert"]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A function call in an answer. `arguments` is sent as given, so it may be empty or broken JSON."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class Script:
    """One scripted answer. Every field left alone keeps the vendor's ordinary behaviour.

    What is said: `text`, or `pieces` (one stream chunk each); `tool_calls`; `refusal`; `reasoning` in the field named
    `reasoning_field`; `finish_reason`; `usage` verbatim, or `omit_usage`; `cached_tokens` inside the counted usage;
    `extra` merged into the body or every chunk, `message_extra` into the message or the first delta.

    Instead of an answer: `status` with `error` (missing keys filled as the vendor would), or `body` (JSON, verbatim),
    or `raw_body`; `raw_events` replaces a whole stream. `headers` are added to the vendor's, replacing equal names.

    How it travels: `delay_seconds` before the headers; `hold_before_headers` until released; `drop_before_headers`;
    `chunk_pause_seconds` before each stream event but the first; `split_bytes` writes a stream in pieces of that size;
    `fault` after `fault_after_events` events (each `data:` line counts, the role chunk first); `send_done` off leaves
    out [DONE]; `cut_body_at` closes after so many bytes of a non-stream body; `gzip` compresses one.
    """

    text: str | None = None
    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    reasoning: str = ""
    reasoning_field: str = "reasoning_content"
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    omit_usage: bool = False
    cached_tokens: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    message_extra: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    error: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    raw_body: bytes | None = None
    raw_events: tuple[bytes, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    hold_before_headers: bool = False
    drop_before_headers: Literal["", "close", "reset"] = ""
    chunk_pause_seconds: float = 0.0
    split_bytes: int = 0
    fault: Fault | None = None
    fault_after_events: int = 0
    fault_bytes: bytes = b""
    send_done: bool = True
    cut_body_at: int | None = None
    gzip: bool = False


@dataclass
class Rule:
    """A script and the requests it is for: every key given must match. `times` None: for ever."""

    script: Script
    model: str | None = None
    marker: str | None = None
    path: str | None = None
    times: int | None = 1

    def matches(self, path: str, model: str, raw_body: bytes) -> bool:
        return (
            self.times != 0
            and self.model in (None, model)
            and self.path in (None, path)
            and (self.marker is None or self.marker.encode() in raw_body)
        )


class ScriptBook:
    """Rules in the order they were added; the first that matches and is not used up answers. Thread-safe.

    `ordinary` answers when no rule matches, and stays when the rules are cleared.
    """

    def __init__(self, ordinary: Script | None = None) -> None:
        self._ordinary = ordinary or Script()
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def take(self, path: str, model: str, raw_body: bytes) -> Script:
        """The script for one request, used up once."""
        with self._lock:
            for rule in self._rules:
                if rule.matches(path, model, raw_body):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule.script
        return self._ordinary

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
