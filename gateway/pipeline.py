"""The straight line every call takes, whatever door it came in by. There is no other way to a provider.

who      endpoints authenticate the key and parse the body into a `Call`
told     the audit log has its beginning; its end follows when the answer is out
may I    is the model approved for this tenant, and can it do what is asked
where    which deployments may answer, best first
later?   a call that nobody waits for becomes a job here, and comes back when a worker makes it
clean?   the hooks bound to the call allow it, or change it
so much  every rate limit has room, in one round trip
cached   is the answer there already, or on its way to somebody who asked the same
can I    the ledger commits an attempt before any byte leaves
ask      the adapter writes the request, the transport carries it
hear     the adapter reads the answer, metering counts it
check    an answer that is held to a schema is checked, and asked for once more
clean?   the hooks see the answer: whole, or as it goes to the client
settle   the attempt ends once, with its cost, whatever became of the client
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.context import Call, Trace
from gateway.failover import first_answer
from gateway.hooks.runner import hooks_of
from gateway.jobs.deferring import defer
from gateway.routing import candidates
from gateway.schemas.answers import as_asked, checked_answer
from gateway.streaming import EventStream, WholeReply

if TYPE_CHECKING:
    from gateway.runtime import Gateway


async def answer(gateway: Gateway, call: Call, *, trace: Trace) -> WholeReply | EventStream:
    """Answer a call. Raises `gateway.errors.GatewayError`, and `gateway.jobs.deferring.Deferred` for one that is to be
    made later."""
    if trace.deferral is not None:
        raise await defer(gateway, call, trace=trace)
    gateway.audit.started(call, trace)
    targets = candidates(gateway.directory, call, health=gateway.health, trace=trace)
    hooks = hooks_of(gateway, call, trace=trace, targets=targets)
    if hooks is not None:
        call = await hooks.before(call)
    await gateway.limits.admit(call, trace, targets=targets)
    walk = first_answer if call.expected is None else checked_answer
    ask = partial(walk, gateway, call, trace=trace, targets=targets)
    reply = await gateway.cache.answer(call, trace, ask=ask, hooks=hooks)
    if hooks is not None:
        reply = await hooks.after(reply)
    return reply if call.expected is None else as_asked(reply, call, trace=trace)
