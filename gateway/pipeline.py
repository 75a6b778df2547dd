"""The straight line every call takes, whatever door it came in by. There is no other way to a provider.

who      endpoints authenticate the key and parse the body into a `Call`
may I    is the model approved for this tenant, and can it do what is asked
where    which deployments may answer, best first
so much  every rate limit has room, in one round trip
can I    the ledger commits an attempt before any byte leaves
ask      the adapter writes the request, the transport carries it
hear     the adapter reads the answer, metering counts it
settle   the attempt ends once, with its cost, whatever became of the client
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.attempts import first_answer
from gateway.context import Call, Trace
from gateway.routing import candidates
from gateway.streaming import StreamReply, WholeReply

if TYPE_CHECKING:
    from gateway.runtime import Gateway


async def answer(gateway: Gateway, call: Call, *, trace: Trace) -> WholeReply | StreamReply:
    """Answer a call. Raises `gateway.errors.GatewayError`."""
    targets = candidates(gateway.directory.catalogue, call)
    await gateway.limits.admit(call, trace, targets=targets)
    return await first_answer(gateway, call, trace=trace, targets=targets)
