"""Where a call turns off the pipeline to be made later: after it is clear that it may be asked for at all."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError

from billing.entries import new_attempt_id
from billing.headroom import refusal
from gateway.context import Call, Trace
from gateway.errors import (
    BudgetRefusedError,
    GatewayError,
    OverloadedError,
    PriceUnknownError,
    ProviderUnavailableError,
    ValidationError,
)
from gateway.reservation import reservation
from gateway.routing import candidates
from providers.types import Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway


class Deferred(Exception):
    """This call is good to be made, later."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


async def defer(gateway: Gateway, call: Call, *, trace: Trace) -> Deferred:
    """The call as it may become a job. Raises the `GatewayError` that it would fail with whenever it is made."""
    try:
        if trace.stream:
            raise ValidationError("A job has no stream: leave out stream, or follow the job's /events.", param="stream")
        try:
            targets = candidates(gateway.directory, call, health=gateway.health, trace=trace)
        except ProviderUnavailableError:
            targets = []  # it may be back when the job runs
        if targets:
            await _check_budgets(gateway, call, targets=targets)
    except GatewayError:
        gateway.audit.started(call, trace)
        raise
    return Deferred(call)


async def _check_budgets(gateway: Gateway, call: Call, *, targets: list[Target]) -> None:
    """Refuse what no budget could pay for as it stands now, by whomever it were answered."""
    if not call.caller.budgets:
        return
    moment = dt.datetime.now(dt.UTC)
    objection: GatewayError | None = None
    for target in targets:
        price = gateway.directory.prices.at(target.model_id, moment)
        try:
            asked = reservation(new_attempt_id(), call, target=target, price=price, moment=moment)
            found = await gateway.directory.query(refusal, asked)
        except PriceUnknownError as error:
            objection = objection or error
            continue
        except (DatabaseError, InterfaceError) as error:
            raise OverloadedError("Jobs cannot be written down at the moment.") from error
        if found is None:
            return
        objection = objection or BudgetRefusedError(found)
    if objection is not None:
        raise objection
