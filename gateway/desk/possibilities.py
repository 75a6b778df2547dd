"""What a key could do right now: the pipeline's own steps, walked with a call that nobody makes.

Who, may I, where, so much and can I are asked as `gateway.pipeline` asks them, of the functions that answer it. Limits
are looked at and not counted, a reservation is taken back. Hooks are named only: what they say hangs on the text.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from billing.entries import new_attempt_id
from billing.errors import BudgetExceededError, LedgerUnavailableError
from billing.pricing import PriceList
from billing.rehearsals import Rehearsal, rehearse
from billing.selectors import load_prices
from gateway.authentication import check_scope, check_standing
from gateway.context import Attribution, Call, Caller, Trace
from gateway.directory import load_caller
from gateway.errors import BudgetRefusedError, GatewayError, InvalidApiKeyError
from gateway.health.board import Health
from gateway.hooks.selectors import HookShelf
from gateway.limit_buckets import Standing
from gateway.limits import SCRIPT, asked, lease_for, refused_by
from gateway.redis_script import RedisAwayError, RedisScript
from gateway.reservation import reservation
from gateway.routing import candidates
from providers.models import Capability
from providers.selectors import Catalogue, load_catalogue
from providers.types import Target, WireRequest
from tenants.models import ApiKey, Scope

SAMPLE_INPUT_BYTES = 4_000
"""About a thousand tokens."""

SAMPLE_OUTPUT_TOKENS = 500
MOST_TARGETS = 12
"""So many models and groups are asked about at once: each is a round trip to the ledger."""

NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What would become of a call to a model or group."""

    name: str
    code: str = ""
    """Of the error that the client would get; empty where the call would go out."""
    words: str = ""
    status: int = 200
    route: str = ""
    """Which deployment would be asked first."""
    skipped: tuple[str, ...] = ()
    """What would be passed over, and why."""
    rehearsal: Rehearsal | None = None

    @property
    def is_open(self) -> bool:
        return not self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class Possibilities:
    """All of a key's, as they are at this moment."""

    key: ApiKey
    refused: Outcome | None
    """Why the key would be refused whatever it asked for."""
    limits: Sequence[Standing]
    limits_known: bool
    """Whether Redis could be asked how far the limits are used."""
    outcomes: Sequence[Outcome]
    not_asked: int
    """How many more models and groups are approved."""
    hooks: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Registry:
    """As it is now, which every process has within two seconds."""

    catalogue: Catalogue
    prices: PriceList


def possibilities(key: ApiKey, *, user: str = "") -> Possibilities:
    """Ask for a key, with an end user if one is named. A fixed number of queries, and a few for each model."""
    caller = load_caller(bytes(key.digest), HookShelf())
    if caller is None:
        return _nothing(key, InvalidApiKeyError())
    try:
        check_standing(caller)
        check_scope(caller, Scope.CHAT)
    except GatewayError as error:
        return _nothing(key, error)
    registry = _Registry(load_catalogue(), load_prices())
    names = sorted(caller.approved)
    calls = [_sample(caller, name, registry=registry, user=user) for name in names[:MOST_TARGETS]]
    return _walk(key, registry, calls=calls, not_asked=max(len(names) - MOST_TARGETS, 0))


def _nothing(key: ApiKey, error: GatewayError) -> Possibilities:
    """For a key that gets no further than the door."""
    refused = _refused(key.name, error)
    return Possibilities(key=key, refused=refused, limits=(), limits_known=True, outcomes=(), not_asked=0, hooks=())


def _refused(name: str, error: GatewayError, *, route: str = "", skipped: Sequence[str] = ()) -> Outcome:
    return Outcome(
        name=name, code=error.code, words=error.message, status=error.status, route=route, skipped=tuple(skipped)
    )


def _sample(caller: Caller, name: str, *, registry: _Registry, user: str) -> Call:
    """A short question to a model: a chat, or the embedding of a text where it can do only that."""
    model = registry.catalogue.models.get(name)
    embeds = model is not None and Capability.CHAT not in model.capabilities and "embeddings" in model.capabilities
    operation = "embeddings" if embeds else "chat"
    return Call(
        caller=caller,
        request_id="looked-at",
        operation=operation,
        requested_model=name,
        needs=frozenset({operation}),
        wire=WireRequest(operation=operation, members={}),
        input_bytes=SAMPLE_INPUT_BYTES,
        max_output_tokens=None if embeds else SAMPLE_OUTPUT_TOKENS,
        attribution=Attribution(user=user or caller.principal.user),
    )


@dataclass(slots=True)
class _Step:
    """How far a call gets before it reaches the ledger."""

    call: Call
    trace: Trace
    targets: Sequence[Target] = ()
    standings: Sequence[Standing] = ()
    limits_known: bool = True
    refusal: GatewayError | None = None


def _walk(key: ApiKey, registry: _Registry, *, calls: list[Call], not_asked: int) -> Possibilities:
    steps = asyncio.run(_look(calls, registry))
    limits = {standing.bucket.key: standing for step in steps for standing in step.standings}
    hooks = [f"{hook.name} ({hook.kind})" for hook in calls[0].caller.hooks] if calls else []
    return Possibilities(
        key=key,
        refused=None,
        limits=list(limits.values()),
        limits_known=all(step.limits_known for step in steps),
        outcomes=[_outcome(step, registry) for step in steps],
        not_asked=not_asked,
        hooks=hooks,
    )


async def _look(calls: list[Call], registry: _Registry) -> list[_Step]:
    """Where each call would go, and how far its limits are used, with the breakers as they are now."""
    url, timeout = settings.REDIS_CONNECTION, settings.REDIS_TIMEOUT_MS / 1000
    health = Health(url, timeout_seconds=timeout)
    script = RedisScript(url, SCRIPT, timeout_seconds=timeout)
    try:
        await health.read_once()
        steps = [_Step(call, Trace(call.request_id)) for call in calls]
        for step in steps:
            await _step(step, registry, health=health, script=script)
        return steps
    finally:
        await script.close()
        await health.close()


async def _step(step: _Step, registry: _Registry, *, health: Health, script: RedisScript) -> None:
    """May I, where, so much: in the pipeline's order, until one of them refuses."""
    try:
        step.targets = candidates(registry, step.call, health=health, trace=step.trace)
    except GatewayError as error:
        step.refusal = error
        return
    lease = lease_for(step.call, "looked-at", targets=step.targets)
    if not lease.buckets:
        return
    try:
        step.standings, refusing, wait_seconds = await asked(script, "look", lease=lease)
    except RedisAwayError:
        step.limits_known = False
        return
    if refusing is not None:
        step.refusal = refused_by(refusing, wait_seconds)


def _outcome(step: _Step, registry: _Registry) -> Outcome:
    """Why the call would be refused; else where it would go, and what would be held for it."""
    name = step.call.requested_model
    skipped = tuple(f"{subject}: {reason}" for subject, reason in step.trace.skipped)
    route = f"{step.targets[0].model_name} at {step.targets[0].provider_name}" if step.targets else ""
    refusal = step.refusal
    rehearsal = None
    if refusal is None:
        try:
            rehearsal = _rehearsed(step.call, step.targets[0], registry=registry)
        except BudgetExceededError as error:
            refusal = BudgetRefusedError(error.refusal)
        except GatewayError as error:
            refusal = error
        except LedgerUnavailableError:
            return Outcome(
                name=name, code=NOT_ASKED, words="The budgets are busy: look again in a moment.", route=route
            )
    if refusal is not None:
        return _refused(name, refusal, route=route, skipped=skipped)
    return Outcome(name=name, route=route, skipped=skipped, rehearsal=rehearsal)


def _rehearsed(call: Call, target: Target, *, registry: _Registry) -> Rehearsal:
    now = dt.datetime.now(dt.UTC)
    price = registry.prices.at(target.model_id, now)
    return rehearse(reservation(new_attempt_id(), call, target=target, price=price, moment=now))
