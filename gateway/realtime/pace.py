"""How much a client may send: far more than anybody says, and far less than a flood."""

from __future__ import annotations

from gateway.errors import GatewayError, ValidationError

FRAMES_PER_SECOND = 2000
"""A voice in frames of 20 ms makes 50, a recording sent at once some hundreds."""

WINDOW_SECONDS = 10.0
CHARACTERS_PER_WINDOW = 32 * 1024 * 1024
"""Two frames of the largest size that OpenAI takes. A voice makes 64 KiB a second."""


class Pace:
    """Counts one client's frames."""

    def __init__(self) -> None:
        self._second = self._window = 0.0
        self._frames = self._characters = 0

    def excess(self, characters: int, now: float) -> GatewayError | None:
        """Count a frame; what to tell a client that has sent too much."""
        if now - self._second >= 1:
            self._second, self._frames = now, 0
        if now - self._window >= WINDOW_SECONDS:
            self._window, self._characters = now, 0
        self._frames += 1
        self._characters += characters
        if self._frames > FRAMES_PER_SECOND:
            return ValidationError(f"More than {FRAMES_PER_SECOND} frames came within a second.")
        if self._characters > CHARACTERS_PER_WINDOW:
            return ValidationError(f"More than {CHARACTERS_PER_WINDOW} characters came within ten seconds.")
        return None
