"""What a session has used that no provider has reported yet: counted frame by frame, in billable units.

A response reads the whole conversation anew, so each costs what the last one read and said, what was put in since, and
what it says. Counted is without caches and rather too much than too little: it decides when to hold more money and what
a session owes whose provider says nothing any more. As soon as a provider reports, its figures take the place of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from billing.counting import count_tokens
from providers.types import Usage

HEARD_TOKENS_PER_SECOND, SPOKEN_TOKENS_PER_SECOND = 10, 20
"""As vendors count sound."""

BYTES_PER_SECOND = {"audio/pcm": 48_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}

INPUTS = {"input": "input", "cache_read": "input", "audio_input": "audio_input", "audio_cache_read": "audio_input",
          "image_input": "image_input", "image_cache_read": "image_input"}  # fmt: skip
BECOMES = {"output": "input", "audio_output": "audio_input"}
"""What was said is read with the next response."""


def decoded_bytes(base64: Any) -> int:
    """How many bytes a base64 text stands for, about."""
    return len(base64) * 3 // 4 if isinstance(base64, str) else 0


@dataclass(slots=True)
class Speech:
    """What one response has said so far."""

    read: dict[str, int]
    audio_bytes: int = 0
    text_bytes: int = 0


@dataclass(slots=True)
class Meter:
    """Counts one session."""

    input_format: str = "audio/pcm"
    output_format: str = "audio/pcm"
    _context: dict[str, int] = field(default_factory=dict)
    """What the next response will read, by unit."""
    _since: dict[str, int] = field(default_factory=dict)
    """Of that, what came since the last response began."""
    _buffered_bytes: int = 0
    """Of sound that is not committed yet."""
    _speaking: dict[str, Speech] = field(default_factory=dict)

    def appended(self, base64: Any) -> None:
        """The client has spoken."""
        self._buffered_bytes += decoded_bytes(base64)

    def cleared(self) -> None:
        """What was spoken is forgotten."""
        self._buffered_bytes = 0

    def committed(self) -> int:
        """What was spoken is part of the conversation; returns its milliseconds."""
        per_second = BYTES_PER_SECOND.get(self.input_format, 48_000)
        milliseconds = self._buffered_bytes * 1000 // per_second
        self._add("audio_input", -(-milliseconds * HEARD_TOKENS_PER_SECOND // 1000))
        self._buffered_bytes = 0
        return milliseconds

    def written(self, text_bytes: int) -> None:
        """The client has put in text: instructions, tools, an item."""
        self._add("input", count_tokens(text_bytes))

    def began(self, response_id: str) -> None:
        """A response reads all there is."""
        if response_id not in self._speaking:
            self._speaking[response_id] = Speech(dict(self._context))
            self._since.clear()

    def spoke(self, response_id: str, base64: Any) -> None:
        """A response has said so much sound."""
        self._speech(response_id).audio_bytes += decoded_bytes(base64)

    def wrote(self, response_id: str, text: Any) -> None:
        """A response has said so much text: also the transcript of its voice is charged as text."""
        if isinstance(text, str):
            self._speech(response_id).text_bytes += len(text)

    def ended(self, response_id: str, usage: Usage | None) -> dict[str, int]:
        """A response is over. Returns what was counted for it, to be charged where nothing was reported."""
        speech = self._speaking.pop(response_id, None)
        counted = self._units(speech) if speech is not None else {}
        known = usage.units if usage is not None and not usage.problem else counted
        if known:
            self._context = dict(self._since)
            for unit, count in known.items():
                if (name := INPUTS.get(unit) or BECOMES.get(unit)) is not None:
                    _count(self._context, name, count=count)
        return counted

    @property
    def is_speaking(self) -> bool:
        """Whether a response is under way."""
        return bool(self._speaking)

    @property
    def context(self) -> dict[str, int]:
        """What the next response will read, by unit."""
        return self._context

    def unreported(self) -> dict[str, int]:
        """What the responses under way have used so far."""
        units: dict[str, int] = {}
        for speech in self._speaking.values():
            for unit, count in self._units(speech).items():
                _count(units, unit, count=count)
        return units

    def _speech(self, response_id: str) -> Speech:
        self.began(response_id)
        return self._speaking[response_id]

    def _units(self, speech: Speech) -> dict[str, int]:
        per_second = BYTES_PER_SECOND.get(self.output_format, 48_000)
        units = {
            **speech.read,
            "audio_output": -(-speech.audio_bytes * SPOKEN_TOKENS_PER_SECOND // per_second),
            "output": count_tokens(speech.text_bytes),
        }
        return {unit: count for unit, count in units.items() if count}

    def _add(self, unit: str, count: int) -> None:
        _count(self._context, unit, count=count)
        _count(self._since, unit, count=count)


def _count(units: dict[str, int], unit: str, *, count: int) -> None:
    if count:
        units[unit] = units.get(unit, 0) + count
