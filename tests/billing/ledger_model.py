"""The ledger as a page of Python without a database: what the state machine of `test_ledger_machine.py` compares with.

Written from the design, not from the SQL: no batches, no locks, one call after the other.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from billing.budgets import Hold
from billing.entries import Reservation
from billing.errors import Refusal

WindowKey = tuple[int, str, dt.datetime]
"""Budget, subject, beginning."""


@dataclass
class ModelBudget:
    """A budget with the extras that count now."""

    scope: str
    subject: str
    period: str
    hard: bool
    limit: int
    extras: dict[int, int] = field(default_factory=dict)

    @property
    def ceiling(self) -> int:
        return self.limit + sum(self.extras.values())


@dataclass
class ModelWindow:
    """Money of one period."""

    ends_at: dt.datetime | None
    spent: int = 0
    reserved: int = 0
    ceiling: int = 0
    overrun: int = 0

    def figures(self) -> tuple[dt.datetime | None, int, int, int, int]:
        return self.ends_at, self.spent, self.reserved, self.ceiling, self.overrun


@dataclass
class ModelAttempt:
    """A call that was let through."""

    reserved: int
    tokens: int | None
    windows: tuple[WindowKey, ...]
    process: str
    state: str = "open"
    cost: int | None = None


class ModelLedger:
    """The verbs. Amounts are nano-USD."""

    def __init__(self) -> None:
        self.budgets: dict[int, ModelBudget] = {}
        self.windows: dict[WindowKey, ModelWindow] = {}
        self.attempts: dict[str, ModelAttempt] = {}

    def reserve(self, batch: Sequence[Reservation], process: str) -> list[int | str | None]:
        """For each call of a batch: the tokens granted, "refused", or None where no budget is about it."""
        for hold in (hold for call in batch for hold in call.holds):
            self.windows.setdefault(key_of(hold), ModelWindow(hold.ends_at))
        return [self._reserve(call, process) for call in batch]

    def _reserve(self, call: Reservation, process: str) -> int | str | None:
        known = self.attempts.get(call.id)
        if known is not None:
            return known.tokens if call.holds else None
        keys = tuple(key_of(hold) for hold in call.holds)
        tokens, amount = call.max_output_tokens, 0
        if keys:
            granted = self._granted(call)
            if granted is None:
                return "refused"
            tokens, amount = granted, cost_bound(call, granted)
        for key in keys:
            window = self.windows[key]
            window.reserved += amount
            window.ceiling = max(window.ceiling, self.budgets[key[0]].ceiling)
        self.attempts[call.id] = ModelAttempt(amount, tokens, keys, process)
        return tokens if keys else None

    def _granted(self, call: Reservation) -> int | None:
        """The most output tokens, up to those asked for, that every hard window has room for."""
        assert call.max_output_tokens is not None
        rooms = self.rooms(call)
        wanted = call.max_output_tokens
        if all(cost_bound(call, wanted) <= room for room in rooms):
            return wanted
        if not call.may_shrink:
            return None
        for tokens in range(wanted - 1, call.smallest_output_tokens - 1, -1):
            if all(cost_bound(call, tokens) <= room for room in rooms):
                return tokens
        return None

    def rooms(self, call: Reservation) -> list[int]:
        """What is left in each hard window of a call."""
        rooms = []
        for key in map(key_of, call.holds):
            budget, window = self.budgets[key[0]], self.windows[key]
            if budget.hard:
                rooms.append(budget.ceiling - window.spent - window.reserved)
        return rooms

    def explains(self, refusal: Refusal, call: Reservation) -> bool:
        """Whether a refusal tells the truth about a window that is tightest for the call."""
        tightest = min(self.rooms(call))
        for hold in call.holds:
            budget, window = self.budgets[hold.budget_id], self.windows[key_of(hold)]
            truth = Refusal(
                scope=budget.scope,
                subject=hold.subject,
                period=budget.period,
                limit_nano_usd=budget.ceiling,
                spent_nano_usd=window.spent,
                reserved_nano_usd=window.reserved,
                needed_nano_usd=cost_bound(call, call.max_output_tokens or 0),
                resets_at=hold.ends_at,
            )
            if budget.hard and budget.ceiling - window.spent - window.reserved == tightest and refusal == truth:
                return True
        return False

    def end(self, attempt_id: str, *, cost: int | None) -> None:
        """Settle with a cost, or void without one; nothing where the attempt is not open."""
        attempt = self.attempts.get(attempt_id)
        if attempt is None or attempt.state != "open":
            return
        attempt.state, attempt.cost = ("voided", None) if cost is None else ("settled", cost)
        for key in attempt.windows:
            window = self.windows[key]
            window.reserved -= attempt.reserved
            window.spent += cost or 0
            window.overrun += max(0, (cost or 0) - attempt.reserved)

    def open_ids(self, processes: Iterable[str] | None = None) -> list[str]:
        wanted = None if processes is None else set(processes)
        return [
            attempt_id
            for attempt_id, attempt in self.attempts.items()
            if attempt.state == "open" and (wanted is None or attempt.process in wanted)
        ]


def key_of(hold: Hold) -> WindowKey:
    return hold.budget_id, hold.subject, hold.starts_at


def cost_bound(call: Reservation, tokens: int) -> int:
    """Input and output at their dearest, each begun nano-USD a whole one."""
    return call.fixed_nano_usd + -(-call.output_pico_usd * tokens // 1000)


def period_by_search(period: str, moment: dt.datetime, zone: ZoneInfo) -> tuple[dt.datetime, dt.datetime] | None:
    """The period around a moment, found by asking a clock in the zone second by second (halving): the oracle of
    `window_of`, which reckons with midnights. None for the period that never ends."""
    if period == "total":
        return None
    day = dt.timedelta(days=1)
    here = _label(period, moment, zone)
    start = _first_second(lambda at: _label(period, at, zone) >= here, moment - 100 * day, moment)
    end = _first_second(lambda at: _label(period, at, zone) > here, moment, moment + 100 * day)
    return start, end


def _first_second(is_reached: Callable[[dt.datetime], bool], before: dt.datetime, after: dt.datetime) -> dt.datetime:
    """The first whole second at which something is reached that is not `before` and is `after`."""
    low, high = int(before.timestamp()), int(after.timestamp()) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_reached(dt.datetime.fromtimestamp(middle, dt.UTC)) else (middle, high)
    return dt.datetime.fromtimestamp(high, dt.UTC)


def _label(period: str, moment: dt.datetime, zone: ZoneInfo) -> tuple[int, ...]:
    """What a wall calendar calls the period: it only grows with time."""
    local = moment.astimezone(zone)
    if period == "hour":
        return (int(moment.timestamp()) // 3600,)
    if period == "week":
        year, week, _ = local.isocalendar()
        return year, week
    if period == "day":
        return local.year, local.month, local.day
    return (local.year, local.month) if period == "month" else (local.year, (local.month - 1) // 3)
