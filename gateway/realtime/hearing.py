"""What a session's events say about what is under way and what it costs."""

from __future__ import annotations

import datetime as dt
import logging
import time
from typing import Any

import orjson

from billing.counting import usage_of
from billing.models import Ending, UsageSource
from billing.pricing import PriceList, PriceVersion
from gateway.context import Call
from gateway.errors import GatewayError, InternalError, UpstreamError
from gateway.realtime.charges import Charge, believed, charge_for
from gateway.realtime.closing import End
from gateway.realtime.meter import HEARD_TOKENS_PER_SECOND, Meter
from gateway.realtime.models import SessionReason
from gateway.realtime.policing import Terms
from gateway.realtime.purse import SLICE_SPOKEN_TOKENS
from providers.realtime.types import Event, ServerEvent
from providers.realtime.usage import read_response_usage, read_transcription_usage
from providers.types import Target, Usage

logger = logging.getLogger(__name__)

TEXT_DELTAS = frozenset(
    {
        "response.output_text.delta",
        "response.output_audio_transcript.delta",
        "response.function_call_arguments.delta",
        "response.mcp_call_arguments.delta",
    }
)
TRANSCRIBED = "conversation.item.input_audio_transcription"


class Hearing:
    """Listens to both sides of one session."""

    def __init__(self, call: Call, terms: Terms, *, prices: PriceList) -> None:
        self._call = call
        self._terms = terms
        self._opened_at = dt.datetime.now(dt.UTC)
        self._prices = prices
        self._price = prices.at(terms.target.model_id, self._opened_at)
        self.meter = Meter()
        self._asked = 0
        """Responses that the client has asked for and that have not begun."""
        self._transcriber: Target | None = None
        self._transcribing: dict[str, int] = {}
        """Milliseconds of each item whose transcription is under way."""
        self._has_expired = False
        self.heard_at = time.monotonic()

    @property
    def price(self) -> PriceVersion | None:
        """The model's price, as it was when the session was opened."""
        return self._price

    @property
    def is_busy(self) -> bool:
        """Whether the provider works on something that it will yet report."""
        return self.meter.is_speaking or bool(self._asked or self._transcribing)

    def unreported(self) -> dict[str, int]:
        """What the responses under way have used so far; one that has not begun reads what there is."""
        return self.meter.unreported() or (dict(self.meter.context) if self._asked else {})

    def asked(self, event: Event, *, size: int) -> bool:
        """Take note of a client's event; whether the provider begins to work by it."""
        self.heard_at = time.monotonic()
        kind = event["type"]
        if kind == "input_audio_buffer.append":
            self.meter.appended(event.get("audio"))
        elif kind == "input_audio_buffer.clear":
            self.meter.cleared()
        elif kind in ("session.update", "conversation.item.create"):
            self.meter.written(size)
        elif kind == "response.create":
            self.meter.written(size)
            self._asked += 1
            return True
        return False

    def hear(self, event: ServerEvent) -> list[Charge]:
        """Take note of a provider's event; what is over with it. A session's own is told with our names."""
        self.heard_at = time.monotonic()
        kind, said = event.type, event.event
        if kind == "response.output_audio.delta":
            self.meter.spoke(_id(said, "response_id"), said.get("delta"))
        elif kind in TEXT_DELTAS:
            self.meter.wrote(_id(said, "response_id"), said.get("delta"))
        elif kind == "response.created":
            self._asked = max(0, self._asked - 1)
            self.meter.began(_id(_object(said.get("response")), "id"))
        elif kind == "response.done":
            return self._done(_object(said.get("response")))
        elif kind == "input_audio_buffer.committed":
            milliseconds = self.meter.committed()
            if self._transcriber is not None:
                self._transcribing[_id(said, "item_id")] = milliseconds
        elif kind.startswith(TRANSCRIBED):
            return self._transcribed(said, kind.removeprefix(TRANSCRIBED))
        elif kind in ("session.created", "session.updated"):
            self._configured(event)
        elif kind == "error":
            self._asked = 0  # what was asked for may be what is refused
            self._has_expired = _object(said.get("error")).get("code") == "session_expired"
        return []

    def rest(self, source: UsageSource, ending: Ending) -> list[Charge]:
        """What is under way and will not be reported any more, as it was counted."""
        units = self.unreported()
        charges = [self._charge(usage_of(units), source=source, ending=ending)] if units else []
        charges += [self._counted_transcription(milliseconds) for milliseconds in self._transcribing.values()]
        self._transcribing = {}
        self._asked = 0
        return charges

    def how_it_ended(self, code: int | None) -> End:
        """Why a provider has closed its socket."""
        if self._has_expired:
            return End(reason=SessionReason.EXPIRED)
        return End(reason=SessionReason.PROVIDER_CLOSED, error=self.failure("it closed the session"), code=code)

    def failure(self, message: str) -> GatewayError:
        """What the client is told of a provider that failed."""
        return UpstreamError(f"The provider failed: {message}.")

    def broke(self, error: BaseException, session_id: str) -> End:
        """A fault of our own: the log has the reason."""
        logger.error("realtime.session_failed", extra={"session": session_id}, exc_info=error)
        return End(reason=SessionReason.ERROR, error=InternalError())

    def _done(self, response: Event) -> list[Charge]:
        usage = read_response_usage(response.get("usage"))
        counted = self.meter.ended(_id(response, "id"), usage)
        ending = Ending.FAILED if response.get("status") == "failed" else Ending.COMPLETED
        if usage is None:
            said = {unit for unit in counted if unit in ("output", "audio_output")}
            counted_charge = self._charge(usage_of(counted), source=UsageSource.LOCAL_COUNT, ending=ending)
            return [counted_charge] if said else []
        if not usage.units and not usage.problem:
            return []
        taken, is_true = believed(usage, self._terms.target, price=self._price, most_tokens=SLICE_SPOKEN_TOKENS)
        source = UsageSource.PROVIDER_FINAL if is_true else UsageSource.RESERVE_BOUND
        return [self._charge(taken, source=source, ending=ending)]

    def _transcribed(self, said: Event, how: str) -> list[Charge]:
        if how not in (".completed", ".failed"):
            return []
        milliseconds = self._transcribing.pop(_id(said, "item_id"), 0)
        if how == ".failed":
            return []
        usage = read_transcription_usage(said.get("usage"))
        if usage is None or usage.problem:
            return [self._counted_transcription(milliseconds)] if milliseconds else []
        if not usage.units:
            return []
        target, price = self._transcription_price()
        return [charge_for(usage, target, price=price, source=UsageSource.PROVIDER_FINAL, is_transcription=True)]

    def _counted_transcription(self, milliseconds: int) -> Charge:
        target, price = self._transcription_price()
        unit = "seconds" if price is not None and price.rate("seconds") else "audio_input"
        per_second = 1 if unit == "seconds" else HEARD_TOKENS_PER_SECOND
        usage = usage_of({unit: -(-milliseconds * per_second // 1000)})
        return charge_for(usage, target, price=price, source=UsageSource.LOCAL_COUNT, is_transcription=True)

    def _transcription_price(self) -> tuple[Target, PriceVersion | None]:
        target = self._transcriber or self._terms.target
        return target, self._prices.at(target.model_id, self._opened_at)

    def _charge(self, usage: Usage, *, source: UsageSource, ending: Ending) -> Charge:
        return charge_for(usage, self._terms.target, price=self._price, source=source, ending=ending)

    def _configured(self, event: ServerEvent) -> None:
        """The session as the provider has it now: what is spoken how, what is transcribed by whom, under our names."""
        session = _object(event.event.get("session"))
        audio = _object(session.get("audio"))
        heard, spoken = _object(audio.get("input")), _object(audio.get("output"))
        self.meter.input_format = _format(heard) or self.meter.input_format
        self.meter.output_format = _format(spoken) or self.meter.output_format
        transcription = _object(heard.get("transcription"))
        self._transcriber = self._terms.transcribers.get(str(transcription.get("model")))
        if self._transcriber is not None:
            transcription["model"] = self._transcriber.model_name
        session["id"], session["model"] = self._call.request_id, self._call.requested_model
        event.text = orjson.dumps(event.event).decode()


def _object(found: Any) -> Event:
    return found if isinstance(found, dict) else {}


def _id(holder: Event, name: str) -> str:
    found = holder.get(name)
    return found if isinstance(found, str) else ""


def _format(side: Event) -> str:
    return str(_object(side.get("format")).get("type") or "")
