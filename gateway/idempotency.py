"""`Idempotency-Key`: a call that is repeated is made once, and answered again with what it came to.

The claim is committed before anything is reserved. What cost something is kept for 24 hours, whatever its status; what
cost nothing and failed is let go of, so that a retry runs. Requests without the header never come here.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.http import HttpResponse

from billing.money import usd
from gateway.claims import Claim, Claims, Outcome, Standing
from gateway.context import Trace
from gateway.errors import IdempotencyConflictError, IdempotencyMismatchError, ValidationError
from gateway.models import CallState
from gateway.responses import EventStreamResponse, FileResponse
from gateway.streaming import Send
from tenants.sealing import SealError, seal, unseal

if TYPE_CHECKING:
    from gateway.handler import DataPlaneRequest

META_NAME = "HTTP_IDEMPOTENCY_KEY"
HEADER = b"idempotency-key"
KEY = re.compile(rb"[\x21-\x7e]{1,255}")
KEPT_BYTES = 4 * 1024 * 1024
"""A longer answer is not kept; whoever repeats its call is told that it was charged."""
KEPT_WITHIN_SECONDS = 2.0
"""An answer waits no longer for being kept. It is written on, until the database takes it."""
NOT_AGAIN = {
    "broken_off": "was broken off after it had cost something",
    "too_large": f"was answered and charged, and its answer is longer than the {KEPT_BYTES} bytes that are kept",
}
"""Why a call that was charged is not answered again, by its state."""
NOT_KEPT = frozenset({"x-gateway-overhead-ms", "x-gateway-ratelimit"})
"""About the first request's way through the gateway, not about its answer."""


async def answer_once(request: DataPlaneRequest, answer: Callable[[], Awaitable[HttpResponse]]) -> HttpResponse:
    """Make the call unless it was made before. Raises the `GatewayError` that says why neither is possible."""
    gateway, trace = request.gateway, request.trace
    claim = _claim(request)
    standing = await gateway.claims.claim(claim)
    if standing.state != "claimed":
        trace.replay_of = standing.request_id
        return _replay(standing, tenant_id=claim.tenant_id)
    trace.idempotent = True
    keeping = Keeping(gateway.claims, claim, trace=trace)
    response: HttpResponse | None = None
    try:
        response = await answer()
    finally:
        if response is None:
            keeping.break_off()
    if isinstance(response, EventStreamResponse | FileResponse):
        response.reply = KeptStream(response, keeping)
    else:
        await keeping.keep(response, response.content)
    return response


class Keeping:
    """A claimed call that is under way. Whoever holds it must end it; ending it twice does nothing."""

    def __init__(self, claims: Claims, claim: Claim, *, trace: Trace) -> None:
        self._claims = claims
        self._claim = claim
        self._trace = trace
        self._ended = False

    async def keep(self, response: HttpResponse, body: bytes | None) -> None:
        """End it with an answer, None for one that is too large; returns when the database has it."""
        if response.status_code >= 400 and not self._may_have_cost:
            ending = self._claims.release(self._claim.id)
        else:
            ending = self._claims.finish(self._outcome(response, body))
        self._ended = True
        await asyncio.wait([ending], timeout=KEPT_WITHIN_SECONDS)

    def break_off(self) -> None:
        """End it without an answer. It can be made again if it has cost nothing."""
        if self._ended:
            return
        self._ended = True
        if self._may_have_cost:
            cost = self._trace.cost_nano_usd
            self._claims.finish(Outcome(id=self._claim.id, state=CallState.BROKEN_OFF, cost_nano_usd=cost))
        else:
            self._claims.release(self._claim.id)

    @property
    def _may_have_cost(self) -> bool:
        """Of a cancelled call it may be known only when its provider has been heard out: it is never made again."""
        return self._trace.usage is not None or self._trace.cancelled

    def _outcome(self, response: HttpResponse, body: bytes | None) -> Outcome:
        kept = body if body is not None and len(body) <= KEPT_BYTES else None
        return Outcome(
            id=self._claim.id,
            state=CallState.ANSWERED if kept is not None else CallState.TOO_LARGE,
            status=response.status_code,
            headers=_kept_headers(response.headers),
            body=seal(kept, bound_to=_bound_to(self._claim.id, self._claim.tenant_id)) if kept else "",
            cost_nano_usd=self._trace.cost_nano_usd,
        )


class KeptStream:
    """A stream on its way to the client, of which a copy is kept before the client sees its end."""

    def __init__(self, response: EventStreamResponse | FileResponse, keeping: Keeping) -> None:
        self._response = response
        self._reply = response.reply
        self._keeping = keeping
        self._pieces: list[bytes] = []
        self._size = 0

    async def write(self, send: Send) -> None:
        """Send the body of the response."""

        async def keep_and_send(message: dict[str, Any]) -> None:
            self._add(message["body"])
            if not message["more_body"]:
                body = b"".join(self._pieces) if self._size <= KEPT_BYTES else None
                await self._keeping.keep(self._response, body)
            await send(message)

        await self._reply.write(keep_and_send)

    def close(self) -> None:
        """Let go of a stream that was never written or is over."""
        self._reply.close()
        self._keeping.break_off()

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > KEPT_BYTES:
            self._pieces.clear()
        else:
            self._pieces.append(piece)


class ReplayedStream:
    """A stream that is over, sent again."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def write(self, send: Send) -> None:
        """Send the body of the response."""
        await send({"type": "http.response.body", "body": self._body, "more_body": False})

    def close(self) -> None:
        """There is nothing to let go of."""


def _claim(request: DataPlaneRequest) -> Claim:
    """Read the header. Raises `ValidationError`."""
    given = [value for name, value in request.scope["headers"] if name == HEADER]
    if len(given) != 1 or not KEY.fullmatch(given[0]):
        raise ValidationError(
            "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters.", param="Idempotency-Key"
        )
    pepper, trace = request.gateway.config.api_key_pepper, request.trace
    assert trace.caller is not None
    asked = f"{request.method} {request.path}?{request.META['QUERY_STRING']}\n".encode()
    content = request.body if request.form is None else request.form.digest()
    return Claim(
        tenant_id=trace.caller.principal.tenant_id,
        api_key_id=trace.caller.principal.key_id,
        key_digest=hmac.new(pepper, b"idempotency key:" + given[0], "sha256").hexdigest(),
        request_digest=hmac.new(pepper, asked + content, "sha256").hexdigest(),
        request_id=trace.request_id,
        started_at=trace.started_at,
    )


def _replay(standing: Standing, *, tenant_id: int) -> HttpResponse:
    """What there is already. Raises the conflict that it is where that is no answer."""
    if standing.state == "other_request":
        raise IdempotencyMismatchError(
            "This Idempotency-Key was used for another request: its path and body were others."
        )
    if standing.state == "running":
        raise IdempotencyConflictError("The call with this Idempotency-Key is still being made.", may_retry=True)
    if standing.state in NOT_AGAIN:
        raise _not_again(standing, NOT_AGAIN[standing.state])
    assert standing.id is not None
    try:
        body = unseal(standing.body, bound_to=_bound_to(standing.id, tenant_id)) if standing.body else b""
    except SealError as error:
        raise _not_again(standing, "was answered and charged, and its answer cannot be read any more") from error
    return _answer_again(standing, body)


def _not_again(standing: Standing, why: str) -> IdempotencyConflictError:
    cost = standing.cost_nano_usd
    return IdempotencyConflictError(
        f"The call with this Idempotency-Key {why}. It is not made again: use another key to pay for another call.",
        original_request_id=standing.request_id,
        cost_usd=usd(cost) if cost is not None else None,
    )


def _answer_again(standing: Standing, body: bytes) -> HttpResponse:
    is_stream = standing.headers.get("Content-Type", "").startswith("text/event-stream")
    response = EventStreamResponse(ReplayedStream(body)) if is_stream else HttpResponse(body, status=standing.status)
    for name, value in standing.headers.items():
        response.headers[name] = value
    response.headers["x-gateway-idempotent-replay"] = "true"
    response.headers["x-gateway-original-request-id"] = standing.request_id
    return response


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name == "Content-Type" or (name.startswith("x-gateway-") and name not in NOT_KEPT)
    }


def _bound_to(claim_id: UUID, tenant_id: int) -> bytes:
    return f"idempotent call:{claim_id}:tenant:{tenant_id}".encode()
