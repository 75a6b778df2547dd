"""What was said in a session, for tenants that keep the texts of calls: no sound, and no more than of any call."""

from __future__ import annotations

from gateway.audit.kept_texts import MOST_BYTES, CallText
from gateway.context import Call, Trace
from providers.realtime.types import ServerEvent

WRITTEN = frozenset({"session.update", "conversation.item.create", "response.create"})

SAID = frozenset(
    {
        "conversation.item.input_audio_transcription.completed",
        "response.output_text.done",
        "response.output_audio_transcript.done",
        "response.function_call_arguments.done",
        "response.done",
    }
)


class Keeping:
    """Keeps the events with texts, one in a line, where the tenant wants it."""

    def __init__(self, call: Call, trace: Trace) -> None:
        self._text = trace.text = CallText(b"") if call.caller.principal.keep_text_days else None

    def asked(self, kind: str, text: str) -> None:
        """The client has written something."""
        if self._text is not None and kind in WRITTEN:
            self._text.request = (self._text.request + text.encode() + b"\n")[:MOST_BYTES]

    def told(self, event: ServerEvent) -> None:
        """The client is told something."""
        if self._text is not None and event.type in SAID:
            room = max(0, MOST_BYTES - len(self._text.answer))
            self._text.answer += f"{event.text}\n".encode()[:room]
