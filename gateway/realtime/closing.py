"""How a session ends: what the client is told, and with which code its socket is closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson

from billing.money import usd
from billing.pricing import TIER
from gateway.errors import BudgetRefusedError, GatewayError
from gateway.realtime.charges import Charge, added, worst
from gateway.realtime.models import SessionReason

NORMAL, GOING_AWAY, TOO_BIG, POLICY, FAILED, RESTART, TRY_LATER = 1000, 1001, 1009, 1008, 1011, 1012, 1013

CODES = {
    SessionReason.CLIENT_CLOSE: NORMAL,
    SessionReason.CLIENT_SLOW: POLICY,
    SessionReason.POLICY: POLICY,
    SessionReason.BUDGET_EXCEEDED: POLICY,
    SessionReason.KEY_REVOKED: POLICY,
    SessionReason.EXPIRED: GOING_AWAY,
    SessionReason.IDLE: GOING_AWAY,
    SessionReason.PROVIDER_CLOSED: FAILED,
    SessionReason.DRAINING: RESTART,
    SessionReason.ERROR: FAILED,
}
"""Clients that obey: 1008 is final, 1011 and 1012 are worth another session. Who has vanished is told nothing."""

INPUTS = {
    "text": "input",
    "audio": "audio_input",
    "image": "image_input",
    "cached_text": "cache_read",
    "cached_audio": "audio_cache_read",
    "cached_image": "image_cache_read",
}
OUTPUTS = {"text": "output", "reasoning": "reasoning", "audio": "audio_output"}
"""The summary's names of billable units; each token is in one of them."""

REASON_BYTES = 123
"""What a close frame has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Why a session ends; `error` is what its client is told besides."""

    reason: SessionReason
    error: GatewayError | None = None
    code: int | None = None
    """Where the provider's own is passed on."""

    @property
    def close_code(self) -> int:
        """What the client's socket is closed with."""
        return self.code if self.code is not None else CODES.get(self.reason, FAILED)

    @property
    def close_reason(self) -> str:
        """A few words of ours, never the provider's."""
        return str(self.reason.value)[:REASON_BYTES]


def passed_on(code: int) -> int | None:
    """A provider's close code as clients get it; None where ours says more."""
    return code if 3000 <= code <= 4999 else None


def error_event(error: GatewayError, *, event_id: Any = None) -> str:
    """An error as OpenAI's event."""
    # A spent budget by the name that voice clients know as final.
    code = "insufficient_quota" if isinstance(error, BudgetRefusedError) else error.code
    told = {"type": error.type, "code": code, "message": error.message, "param": error.param}
    if isinstance(event_id, str):
        told["event_id"] = event_id
    return orjson.dumps({"type": "error", "event_id": _event_id(), "error": told}).decode()


def summary_of(charges: Sequence[Charge], *, seconds: int) -> dict[str, Any]:
    """What a session has used: the units of its charges by what they are, and what they cost."""
    spoken = [charge for charge in charges if not charge.is_transcription]
    transcribed = added(charge.units for charge in charges if charge.is_transcription)
    units = added(charge.units for charge in spoken)
    return {
        "seconds": seconds,
        "responses": len(spoken),
        "input": {name: units.get(unit, 0) for name, unit in INPUTS.items()},
        "output": {name: units.get(unit, 0) for name, unit in OUTPUTS.items()},
        "transcription": {unit: count for unit, count in transcribed.items() if unit != TIER},
        "cost": usd(sum(charge.cost_nano_usd for charge in charges)),
        "currency": "USD",
        "usage_source": worst(charge.source for charge in charges).value,
    }


def closed_event(reason: SessionReason, *, session_id: str, model: str, provider: str, usage: dict[str, Any]) -> str:
    """The summary as the event that ends a session."""
    session = {"id": session_id, "model": model, "provider": provider}
    told = {"type": "session.closed", "event_id": _event_id(), "reason": reason.value, "usage": usage}
    return orjson.dumps({**told, "session": session}).decode()


def _event_id() -> str:
    return f"event_{uuid4().hex}"
