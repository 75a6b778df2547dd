"""What a session is paid from: one open attempt of the ledger after the other, each a lease that is renewed.

An attempt holds a minute's worth. It is extended before four fifths of that are used, and settled with what a response
or a transcription cost; the next is committed before, so that there is never a moment in which the provider works and
the books know nothing. Where the next cannot be committed, what is owed waits for the session's end, and what is held
is all that it may still use.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from typing import TYPE_CHECKING

import msgspec

from billing.entries import Reservation, Void, new_attempt_id
from billing.errors import BudgetExceededError, LedgerUnavailableError, Refusal
from billing.flight_recorder import Dispatch
from billing.leases import Extension
from billing.money import PICO_PER_NANO
from billing.pricing import PriceVersion
from gateway.context import Call
from gateway.errors import BudgetRefusedError, OverloadedError, PriceUnknownError
from gateway.realtime.charges import Charge, added, settlement
from gateway.realtime.meter import HEARD_TOKENS_PER_SECOND, SPOKEN_TOKENS_PER_SECOND
from gateway.reservation import is_hard, reservation
from providers.types import Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

SLICE_SECONDS = 60
SLICE_SPOKEN_TOKENS = SLICE_SECONDS * SPOKEN_TOKENS_PER_SECOND
SLICE_HEARD_TOKENS = SLICE_SECONDS * HEARD_TOKENS_PER_SECOND
SMALLEST_TOKENS = 2 * SPOKEN_TOKENS_PER_SECOND
"""Two seconds: a session that affords less is refused, and one that comes to it is ended."""

RENEWED_AT_PERCENT = 80
RETRY_SECONDS = 1.0
"""How soon a budget that had no room is asked again: others may give back what they held."""

SETTLED_SECONDS = 2.0


class Purse:
    """The money of one session at one deployment."""

    def __init__(self, gateway: Gateway, call: Call, *, target: Target, price: PriceVersion | None) -> None:
        self._gateway = gateway
        self._call = call
        self._target = target
        self._price = price
        self._attempt = ""
        self._first: Reservation | None = None
        self._began = dt.datetime.now(dt.UTC)
        self._dispatched = False
        self._unsettled: list[Charge] = []
        """What is owed and stays on the open attempt."""
        self._settling: set[asyncio.Future[None]] = set()
        self._retry_at = 0.0
        self.is_budgeted = False
        """Whether any budget is about the session."""
        self.held_nano_usd = 0
        self.refusal: Refusal | None = None
        """The budget that had no room when it was asked last."""
        self.charges: list[Charge] = []
        """All there were."""

    async def open(self) -> None:
        """Commit the first attempt with a slice. Raises the `GatewayError` that says why nothing may be spent."""
        asked = self._reservation(context={})
        ledger = self._gateway.ledger
        try:
            try:
                granted = await ledger.reserve(asked)
            except LedgerUnavailableError:
                if is_hard(self._call, self._target):
                    raise
                granted = await ledger.put_aside(asked)
        except LedgerUnavailableError as error:
            raise OverloadedError("The ledger cannot be written at the moment, so no session is opened.") from error
        except BudgetExceededError as error:
            raise BudgetRefusedError(error.refusal) from error
        self._first = asked
        self._take_up(asked)
        self.is_budgeted = granted is not None
        self.held_nano_usd = _amount(asked, granted or 0)

    def dispatched(self) -> None:
        """From now on the provider may be working for the attempt that is open."""
        if not self._dispatched:
            self._dispatched = True
            self._gateway.recorder.dispatched(self._attempt, self._dispatch())

    def mark(self, unreported: dict[str, int]) -> None:
        """Put on file what is owed should this process be killed now."""
        if self._dispatched:
            owed = added([*(charge.units for charge in self._unsettled), unreported])
            self._gateway.recorder.counted(self._attempt, owed)

    def owed_nano_usd(self, unreported: dict[str, int]) -> int:
        """What the open attempt would be charged now."""
        cost = self._price.cost_nano_usd(unreported) if self._price is not None and unreported else 0
        return cost + sum(charge.cost_nano_usd for charge in self._unsettled)

    async def pay(self, charge: Charge) -> None:
        """Charge for something that is over. Never fails: what cannot be settled now is when the session ends."""
        self.charges.append(charge)
        self._unsettled.append(charge)
        while self._unsettled and (following := await self._following()) is not None:
            self._settle(self._unsettled.pop(0))
            self._take_up(following)
            self.held_nano_usd = 0

    async def _following(self) -> Reservation | None:
        """The next attempt, committed, which holds nothing yet; None where that cannot be."""
        try:
            empty = self._empty()
            granted = await self._gateway.ledger.reserve(empty)
        except BudgetExceededError as error:
            self.refusal = error.refusal
            return None
        except (LedgerUnavailableError, PriceUnknownError):
            return None
        self.is_budgeted = granted is not None
        return empty

    async def settled(self) -> None:
        """Wait until the ledger has taken what was paid."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=SETTLED_SECONDS)

    @property
    def attempt_id(self) -> str:
        """The attempt that is open."""
        return self._attempt

    @property
    def is_marked(self) -> bool:
        """Whether it stands on file that the provider works for the open attempt."""
        return self._dispatched

    def is_low(self, unreported: dict[str, int]) -> bool:
        """Whether more ought to be held."""
        return self.owed_nano_usd(unreported) * 100 >= self.held_nano_usd * RENEWED_AT_PERCENT

    async def renew(self, unreported: dict[str, int], *, context: dict[str, int]) -> bool:
        """See that enough is held for what is being used; False once more is used than is held, or nothing is."""
        if not self.is_budgeted:
            return True
        if not self.is_low(unreported):
            return True
        now = asyncio.get_running_loop().time()
        if now >= self._retry_at and not await self._extend(context):
            self._retry_at = now + RETRY_SECONDS
            if self.refusal is None and not is_hard(self._call, self._target):
                return True  # the books are away, and no hard budget is about it
        return 0 < self.held_nano_usd > self.owed_nano_usd(unreported)

    async def _extend(self, context: dict[str, int]) -> bool:
        """Hold another slice, or what the headroom affords of it; False where nothing is held besides."""
        await self.settled()  # what the last attempt held must be free again
        try:
            slice_ = self._reservation(context=context)
            asked = Extension(
                attempt_id=self._attempt,
                fixed_nano_usd=slice_.fixed_nano_usd,
                output_pico_usd=slice_.output_pico_usd,
                max_output_tokens=SLICE_SPOKEN_TOKENS,
                smallest_output_tokens=SMALLEST_TOKENS,
            )
            self.held_nano_usd += (await self._gateway.realtime.leases.extend(asked)).nano_usd
        except BudgetExceededError as error:
            self.refusal = error.refusal
            return False
        except (LedgerUnavailableError, PriceUnknownError):
            return False
        self.refusal = None
        return True

    async def close(self, last: Charge | None) -> None:
        """End the open attempt: with what is left to pay, or without a charge. `settled` waits for the books.

        Closing it again does nothing.
        """
        if not self._attempt:
            return
        if last is not None:
            self.charges.append(last)
            self._unsettled.append(last)
        if not self._unsettled:
            self._settling.add(self._gateway.ledger.void(Void(attempt_id=self._attempt, failure="nothing_used")))
            self._attempt = ""
            return
        self._settle(self._unsettled.pop(0))
        for charge in self._unsettled:
            try:
                self._take_up(await self._ungated())
            except LedgerUnavailableError as error:  # neither database nor disk: the log has the only copy
                extra = {"request_id": self._call.request_id, "units": charge.units, "reason": str(error)}
                logger.critical("realtime.charge_lost", extra=extra)
            else:
                self._settle(charge)
        self._attempt = ""

    async def _ungated(self) -> Reservation:
        """An attempt for what has been used already: it belongs in the books whatever budgets say."""
        if (following := await self._following()) is not None:
            return following
        assert self._first is not None
        free = msgspec.structs.replace(
            self._first, id=new_attempt_id(), created_at=dt.datetime.now(dt.UTC), fixed_nano_usd=0,
            max_output_tokens=0, smallest_output_tokens=0, holds=[],
        )  # fmt: skip
        try:
            await self._gateway.ledger.reserve(free)
        except LedgerUnavailableError:
            await self._gateway.ledger.put_aside(free)
        return free

    def fail(self, failure: str) -> None:
        """End the first attempt of a session that did not come about."""
        self._gateway.ledger.void(Void(attempt_id=self._attempt, failure=failure))
        self._attempt = ""

    def follow(self, call: Call) -> None:
        """The session's key or budgets have changed; the next attempt goes by what holds now."""
        self._call = call

    @property
    def affordable_tokens(self) -> int | None:
        """How many tokens of voice the lease affords; None where that is a whole slice or no budget is asked."""
        if not self.is_budgeted or self.refusal is None or self._price is None:
            return None
        rate = self._reservation(context={}).output_pico_usd
        return self.held_nano_usd * PICO_PER_NANO // rate if rate else None

    def _settle(self, charge: Charge) -> None:
        self.dispatched()
        row = settlement(self._attempt, self._call, target=self._target, charge=charge, began=self._began)
        settling = self._gateway.ledger.settle(row)
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)

    def _take_up(self, asked: Reservation) -> None:
        self._attempt, self._began, self._dispatched = asked.id, asked.created_at, False

    def _empty(self) -> Reservation:
        return msgspec.structs.replace(
            self._reservation(context={}), fixed_nano_usd=0, max_output_tokens=0, smallest_output_tokens=0
        )

    def _reservation(self, *, context: dict[str, int]) -> Reservation:
        """A slice: a minute heard and a minute spoken, after everything has been read once more."""
        moment = dt.datetime.now(dt.UTC)
        plain = reservation(new_attempt_id(), self._call, target=self._target, price=self._price, moment=moment)
        price = self._price
        if price is None:
            return msgspec.structs.replace(plain, max_output_tokens=SLICE_SPOKEN_TOKENS)
        heard = price.cost_nano_usd(added([context, {"audio_input": SLICE_HEARD_TOKENS}]))
        return msgspec.structs.replace(
            plain,
            fixed_nano_usd=heard + 1,
            output_pico_usd=price.rate("audio_output"),
            max_output_tokens=SLICE_SPOKEN_TOKENS,
            smallest_output_tokens=SMALLEST_TOKENS,
            may_shrink=True,
        )

    def _dispatch(self) -> Dispatch:
        call, attribution = self._call, self._call.attribution
        return Dispatch(
            input_bytes=0,
            stream=True,
            project_id=call.caller.principal.project_id,
            user=attribution.user,
            conversation=attribution.conversation,
            agent=attribution.agent,
            agent_type=attribution.agent_type,
            requested_model=call.requested_model,
            upstream_model=self._target.upstream_model,
            price_id=self._price.price_id if self._price is not None else None,
        )


def _amount(asked: Reservation, tokens: int) -> int:
    """What the ledger holds for a reservation that was granted so many tokens, in nano-USD."""
    return asked.fixed_nano_usd + (asked.output_pico_usd * tokens + PICO_PER_NANO - 1) // PICO_PER_NANO
