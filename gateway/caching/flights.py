"""Of identical calls under way at the same time one is made; the others are given its answer.

Within a process the first one leads and the rest wait for it. Between processes the leader holds a lease in Redis: the
others look for its answer, and for whether it still lives. Whoever waits longer than a client would, whose leader got
no answer that can be given again, or whose Redis is away, goes on by itself.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Coroutine
from enum import Enum
from typing import Any

from gateway.caching.entries import Entry
from gateway.caching.questions import Question
from gateway.caching.store import LEASE_SECONDS, CacheStore, Found

FOLLOW_SECONDS = 30.0
"""How long anybody waits for another's answer: longer than most answers take, shorter than clients' patience."""

FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.02, 0.25
"""How often a process looks for an answer that another one is getting; each time later."""

RENEW_SECONDS = LEASE_SECONDS / 3


class End(Enum):
    """How a lead ended that has no answer for others."""

    LEFT = "left"
    """Its client left, or it was cancelled: somebody else may lead."""
    NOTHING = "nothing"
    """It failed, or its answer is not to be given again: each goes on by itself."""


class Lead:
    """The right to make a call for everybody who asks the same. Whoever holds it must end it; twice does nothing."""

    def __init__(self, flights: Flights, key: str) -> None:
        self._flights = flights
        self._key = key
        self.outcome: asyncio.Future[Entry | End] = asyncio.get_running_loop().create_future()
        self.token = ""
        """Of the lease in Redis, ours or asked for; empty without one."""
        self._renewal: asyncio.TimerHandle | None = None

    def leased(self) -> None:
        """It is ours in Redis too, and stays so while we live."""
        self._renewal = asyncio.get_running_loop().call_later(RENEW_SECONDS, self._renew)

    def end(self, outcome: Entry | End, *, seconds: int = 0) -> None:
        """Tell the others, and where `seconds` are given keep the answer for so long."""
        if self.outcome.done():
            return
        if self._renewal is not None:
            self._renewal.cancel()
        self.outcome.set_result(outcome)
        self._flights.landed(self._key, self)
        if seconds or self.token:
            self._flights.start(self._tell_processes(outcome, seconds=seconds))

    async def _tell_processes(self, outcome: Entry | End, *, seconds: int) -> None:
        store = self._flights.store
        if isinstance(outcome, Entry) and seconds:
            await store.keep(self._key, outcome, seconds=seconds, token=self.token)
        else:
            await store.give_up(self._key, token=self.token)

    def _renew(self) -> None:
        self._flights.start(self._flights.store.prolong(self._key, token=self.token))
        self._renewal = asyncio.get_running_loop().call_later(RENEW_SECONDS, self._renew)


class Flights:
    """The calls of one process that others may wait for."""

    def __init__(self, store: CacheStore) -> None:
        self.store = store
        self._leads: dict[str, Lead] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer_or_lead(self, question: Question) -> Entry | Lead | None:
        """An answer; or the lead, and then the call is to be made; or None where it is to be made for oneself."""
        deadline = time.monotonic() + FOLLOW_SECONDS
        while True:
            lead = self._leads.get(question.key)
            if lead is None:
                return await self._begin(question, deadline)
            await asyncio.wait({lead.outcome}, timeout=deadline - time.monotonic())
            outcome = lead.outcome.result() if lead.outcome.done() else End.NOTHING
            if isinstance(outcome, Entry):
                return outcome if question.accepts(outcome) else None
            if outcome is End.NOTHING:
                return None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that no answer waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def landed(self, key: str, lead: Lead) -> None:
        """A lead is over."""
        if self._leads.get(key) is lead:
            del self._leads[key]

    async def close(self) -> None:
        """Wait for what is being kept."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _begin(self, question: Question, deadline: float) -> Entry | Lead:
        lead = self._leads[question.key] = Lead(self, question.key)
        is_looking = True
        try:
            found = await self._look(question, lead, deadline=deadline)
            is_looking = False
        finally:
            if is_looking:
                lead.end(End.LEFT)
        if found is None:
            return lead
        lead.end(found)
        return found

    async def _look(self, question: Question, lead: Lead, *, deadline: float) -> Entry | None:
        """What Redis has, now or as soon as another process has the answer; None when the call is ours to make."""
        found = _fit(question, await self.store.read(question.keys))
        while found is None:
            lead.token = lead.token or uuid.uuid4().hex
            seen = await self.store.lead(question.keys, token=lead.token)
            found = _fit(question, seen)  # kept between our first look and now
            if seen.is_led:
                lead.leased()
            if found is not None or seen.is_led or self.store.is_away:
                break
            found = await self._follow(question, deadline)
            if time.monotonic() >= deadline:
                break
        return found

    async def _follow(self, question: Question, deadline: float) -> Entry | None:
        """Wait for another process's answer; None when it has given up, or has died."""
        pause = FIRST_LOOK_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(pause, left))
            seen = await self.store.read(question.keys)
            found = _fit(question, seen)
            if found is not None or not seen.is_led:
                return found
            pause = min(pause * 2, LONGEST_LOOK_SECONDS)
        return None


def _fit(question: Question, seen: Found) -> Entry | None:
    """The first entry that answers the question."""
    return next((entry for entry in seen.entries if question.accepts(entry)), None)
