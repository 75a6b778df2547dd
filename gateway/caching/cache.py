"""In front of the walk over deployments: an answer that is there, or the call and what is kept of its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from gateway.caching.entries import SIZE_LIMIT_BYTES, Entry, Shape
from gateway.caching.flights import End, Flights, Lead
from gateway.caching.hits import note_hit, post_hit
from gateway.caching.questions import Question, objection, question_of, revision_of
from gateway.caching.rules import rule_for
from gateway.caching.store import CacheStore
from gateway.caching.tallies import Tallies
from gateway.context import Call, Trace
from gateway.idempotency import ReplayedStream
from gateway.observation import CACHE_HITS, CACHE_MISSES, CACHE_SKIPS
from gateway.routing import requested_name
from gateway.streaming import DONE, EventStream, Send, StreamReply, WholeReply
from providers.selectors import Catalogue
from providers.types import Target

if TYPE_CHECKING:
    from gateway.hooks.runner import CallHooks
    from gateway.runtime import Gateway

Ask = Callable[[], Awaitable[WholeReply | StreamReply]]


class ResponseCache:
    """The cache of one gateway. Calls of tenants without a rule pass it at the cost of one look at a dict."""

    def __init__(self, gateway: Gateway, *, redis_url: str, timeout_seconds: float) -> None:
        self._gateway = gateway
        self._store = CacheStore(redis_url, timeout_seconds=timeout_seconds)
        self._flights = Flights(self._store)
        self._tallies = Tallies(gateway.directory)
        self._catalogue: Catalogue | None = None
        self._revisions: dict[str, str] = {}

    def start(self) -> None:
        """Begin to count."""
        self._tallies.start()

    async def close(self) -> None:
        """Keep and write what is under way. The ledger is still open then."""
        await self._flights.close()
        await self._tallies.close()
        await self._store.close()

    async def answer(self, call: Call, trace: Trace, *, ask: Ask, hooks: CallHooks | None) -> WholeReply | EventStream:
        """The kept answer to a call that may have one, else what `ask` comes to. Raises what that raises.

        `hooks` see what comes of it. They change a stream before it could be kept, and with what they know of this
        request alone: such a one is not kept.
        """
        if not call.caller.cache_rules:
            return await ask()
        name = requested_name(self._gateway.directory.catalogue, call)
        rule = rule_for(call.caller.cache_rules, name)
        if rule is None:
            return await ask()
        if reason := objection(call, rule) or _hooked(call, hooks):
            trace.cache = "skip"
            CACHE_SKIPS.labels(reason).inc()
            return await ask()
        question = question_of(call, rule, name=name, revision=self._revision(name))
        lead: Lead | None = None
        if question.max_age_seconds != 0:
            found = await self._flights.answer_or_lead(question)
            if isinstance(found, Entry):
                if (target := self._target_of(found)) is not None:
                    return self._give_again(found, call, question=question, trace=trace, target=target)
            else:
                lead = found
        return await self._ask(ask, call, question=question, trace=trace, lead=lead)

    def _give_again(
        self, entry: Entry, call: Call, *, question: Question, trace: Trace, target: Target
    ) -> WholeReply | EventStream:
        trace.cache = "hit"
        trace.cache_age_seconds = entry.age_seconds(time.time())
        CACHE_HITS.labels(call.operation).inc()
        self._tallies.hit(question.rule.id, saved_nano_usd=entry.cost_nano_usd or 0)
        attempt_id = note_hit(call, trace, entry=entry, target=target)
        self._flights.start(
            post_hit(self._gateway, call, attempt_id=attempt_id, trace=trace, entry=entry, target=target)
        )
        body = entry.told_as(question.shape)
        return WholeReply(body) if question.shape is Shape.WHOLE else ReplayedStream(body)

    async def _ask(
        self, ask: Ask, call: Call, *, question: Question, trace: Trace, lead: Lead | None
    ) -> WholeReply | EventStream:
        trace.cache = "miss"
        CACHE_MISSES.labels(call.operation).inc()
        self._tallies.miss(question.rule.id)
        keeping = Keeping(self._flights, question, trace=trace, lead=lead)
        reply: WholeReply | StreamReply | None = None
        try:
            reply = await ask()
        except asyncio.CancelledError:
            keeping.leave()
            raise
        finally:
            if reply is None:
                keeping.drop()
        if isinstance(reply, StreamReply):
            return RememberedStream(reply, keeping)
        keeping.keep(reply.body)
        return reply

    def _target_of(self, entry: Entry) -> Target | None:
        """The deployment that gave an answer; None when it is no longer there."""
        model = self._gateway.directory.catalogue.models.get(entry.model_name)
        for place in model.deployments if model is not None else ():
            if place.target.deployment_id == entry.deployment_id:
                return place.target
        return None

    def _revision(self, name: str) -> str:
        catalogue = self._gateway.directory.catalogue
        if catalogue is not self._catalogue:
            self._catalogue, self._revisions = catalogue, {}
        if name not in self._revisions:
            self._revisions[name] = revision_of(catalogue, name)
        return self._revisions[name]


def _hooked(call: Call, hooks: CallHooks | None) -> str:
    return "hooks" if hooks is not None and call.wire.stream and hooks.watches_streams else ""


class Keeping:
    """A call under way whose answer is to be kept. Whoever holds it must end it; ending it twice does nothing."""

    def __init__(self, flights: Flights, question: Question, *, trace: Trace, lead: Lead | None) -> None:
        self._question = question
        self._trace = trace
        self._lead = lead if lead is not None else Lead(flights, question.key)
        """Where nobody waits for it, a lead of its own keeps the answer all the same."""

    def keep(self, body: bytes) -> None:
        """Keep the answer and give it to whoever waits."""
        target = self._trace.target
        if len(body) > SIZE_LIMIT_BYTES or target is None:
            self.drop()
            return
        entry = Entry(
            stored_at=time.time(),
            request_id=self._trace.request_id,
            deployment_id=target.deployment_id,
            model_name=target.model_name,
            cost_nano_usd=self._trace.cost_nano_usd,
            shape=self._question.shape,
            body=body,
        )
        self._lead.end(entry, seconds=self._question.rule.ttl_seconds)

    def leave(self) -> None:
        """The client left, so there is no answer: somebody else may ask for one."""
        self._lead.end(End.LEFT)

    def drop(self) -> None:
        """There is no answer that could be given to others."""
        self._lead.end(End.NOTHING)


class RememberedStream:
    """A stream on its way to the client, kept when it has come to its end."""

    def __init__(self, reply: StreamReply, keeping: Keeping) -> None:
        self._reply = reply
        self._keeping = keeping
        self._pieces: list[bytes] = []
        self._size = 0

    async def write(self, send: Send) -> None:
        """Send the body of the response."""

        async def remember_and_send(message: dict[str, Any]) -> None:
            self._add(message["body"])
            if not message["more_body"]:
                self._end(message["body"])
            await send(message)

        await self._reply.write(remember_and_send)

    def close(self) -> None:
        """Let go of a stream that was never written or is over."""
        self._reply.close()
        self._keeping.leave()

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= SIZE_LIMIT_BYTES:
            self._pieces.append(piece)

    def _end(self, last: bytes) -> None:
        """A stream that broke off ends with an error instead of the mark."""
        if last.endswith(DONE) and self._size <= SIZE_LIMIT_BYTES:
            self._keeping.keep(b"".join(self._pieces))
        else:
            self._keeping.drop()
