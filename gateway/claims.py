"""Who makes a call with an idempotency key, and what came of it: PostgreSQL says so, one round trip each.

Over two connections of the gateway's own, so that an answer of megabytes being kept delays no claim.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec
from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now

from billing.coalescer import Coalescer
from billing.connection import CONNECTION_ERRORS, REPLY_TIMEOUT_SECONDS, StatementConnection, StatementError
from gateway.errors import OverloadedError
from gateway.models import CallState, IdempotentCall

logger = logging.getLogger(__name__)

KEPT_FOR = dt.timedelta(hours=24)
"""The function `idempotency_claim` counts the same hours."""
PURGE_BATCH = 1000
CLAIM_TRIES = 3
WRITE_PAUSE_SECONDS = 0.2
WRITE_PAUSE_LONGEST_SECONDS = 5.0
CLOSE_SECONDS = 5.0
"""How long a process that ends waits for a database that is away. Its charges say later what came of its calls."""

STATEMENTS = {
    "claim": "SELECT idempotency_claim($1::jsonb)",
    "finish": """
        UPDATE gateway_idempotentcall held SET state = came.state, status = came.status, headers = came.headers,
            body = came.body, cost_nano_usd = came.cost_nano_usd
        FROM jsonb_to_record($1::jsonb) AS came(id uuid, state text, status int, headers jsonb, body text,
            cost_nano_usd bigint)
        WHERE held.id = came.id AND held.state = 'running'
    """,
    "release": "DELETE FROM gateway_idempotentcall WHERE id = ($1::jsonb->>'id')::uuid AND state = 'running'",
}


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The wish to make a call. Digests are hexadecimal; `started_at` is by this process's clock."""

    id: UUID = msgspec.field(default_factory=uuid4)
    tenant_id: int
    api_key_id: int
    key_digest: str
    request_digest: str
    request_id: str
    started_at: dt.datetime


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says to a claim: `claimed`, that is make the call; or what there is already."""

    state: Literal["claimed", "other_request", "running", "answered", "too_large", "broken_off"]
    id: UUID | None = None
    request_id: str = ""
    status: int | None = None
    headers: dict[str, str] = {}
    body: str = ""
    cost_nano_usd: int | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a claimed call came to. `body` is sealed."""

    id: UUID
    state: CallState
    status: int | None = None
    headers: dict[str, str] = {}
    body: str = ""
    cost_nano_usd: int | None = None


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed call that cost nothing: whoever repeats it makes it."""

    id: UUID


class Claims:
    """The verbs. A process that ends must `close` them while its row among the living processes is still there."""

    def __init__(self, conninfo: str, process_id: UUID, *, dead_after_seconds: float) -> None:
        self._owner = {"process": process_id, "dead_after_seconds": dead_after_seconds}
        self._claiming = StatementConnection(conninfo, STATEMENTS, application_name="bursar-claims")
        self._ending = StatementConnection(conninfo, STATEMENTS, application_name="bursar-claims")
        self._claims: Coalescer[Claim, Standing] = Coalescer(self._write_claims)
        self._ends: Coalescer[Outcome | Release, None] = Coalescer(self._write_ends)

    async def claim(self, claim: Claim) -> Standing:
        """Ask for a call. Committed before it returns `claimed`. Raises `OverloadedError` without a database."""
        asking = self._claims.add(claim)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:  # the claim may be committed all the same
            asking.add_done_callback(lambda done: done.cancelled() or done.exception() or self.release(claim.id))
            raise

    def finish(self, outcome: Outcome) -> asyncio.Future[None]:
        """Keep what a call came to. The future need not be awaited: the row is written again until it is taken."""
        return self._ends.add(outcome)

    def release(self, claim_id: UUID) -> asyncio.Future[None]:
        """Let go of a call that cost nothing."""
        return self._ends.add(Release(id=claim_id))

    async def close(self) -> None:
        """Write what is queued, then let go of the connections."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._claims.idle()
                await self._ends.idle()
        except TimeoutError:
            unwritten = await self._claims.abandon() + await self._ends.abandon()
            logger.error("idempotency.closed_with_rows", extra={"rows": unwritten})
        await self._claiming.close()
        await self._ending.close()

    async def _write_claims(self, claims: list[Claim]) -> Sequence[Standing | Exception]:
        return [await self._ask(claim) for claim in claims]

    async def _ask(self, claim: Claim) -> Standing | Exception:
        question = _encode({**msgspec.to_builtins(claim), **self._owner})
        for attempt in range(CLAIM_TRIES):
            try:
                return _decode_standing(await self._claiming.run("claim", question))
            except StatementError as error:
                reason: Exception = error
                if not error.may_retry:
                    break
            except CONNECTION_ERRORS as error:
                reason = error
            await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))
        logger.error("idempotency.claim_failed", extra={"request_id": claim.request_id, "reason": str(reason)})
        # It may be committed all the same, at the latest when its statement times out.
        asyncio.get_running_loop().call_later(REPLY_TIMEOUT_SECONDS, self.release, claim.id)
        return OverloadedError("The idempotency key cannot be looked up at the moment, so no call is made.")

    async def _write_ends(self, ends: list[Outcome | Release]) -> Sequence[Exception | None]:
        return [await self._write_until_taken(end) for end in ends]

    async def _write_until_taken(self, end: Outcome | Release) -> Exception | None:
        pause = WRITE_PAUSE_SECONDS
        statement = "finish" if isinstance(end, Outcome) else "release"
        while True:
            try:
                await self._ending.run(statement, _encode(end))
                return None
            except StatementError as error:
                if not error.may_retry:
                    logger.error("idempotency.outcome_refused", extra={"claim": str(end.id), "reason": str(error)})
                    return error
            except CONNECTION_ERRORS as error:
                logger.warning("idempotency.write_repeated", extra={"reason": str(error)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, WRITE_PAUSE_LONGEST_SECONDS)


def purge_expired(*, batch: int = PURGE_BATCH) -> int:
    """Delete the calls whose 24 hours are over, with what was kept of their answers; returns how many."""
    oldest_kept: Any = ExpressionWrapper(Now() - KEPT_FOR, output_field=DateTimeField())
    purged = 0
    while ids := list(IdempotentCall.objects.filter(created_at__lte=oldest_kept).values_list("id", flat=True)[:batch]):
        purged += IdempotentCall.objects.filter(id__in=ids, created_at__lte=oldest_kept).delete()[0]
    return purged


_encode = msgspec.json.encode
_decode_standing = msgspec.json.Decoder(Standing).decode
