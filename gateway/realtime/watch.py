"""Whether a session may go on: its key, its tenant, its model, its age, and the process that relays it."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError

from gateway.authentication import check_standing
from gateway.directory import StaleDirectoryError
from gateway.errors import (
    BudgetRefusedError,
    GatewayError,
    InvalidApiKeyError,
    ModelNotApprovedError,
    OverloadedError,
)
from gateway.realtime.closing import TRY_LATER, End
from gateway.realtime.models import SessionReason

if TYPE_CHECKING:
    from gateway.realtime.session import Session
    from gateway.runtime import Gateway

ASKED_EVERY_SECONDS = 1.0


class Watch:
    """Looks after one session."""

    def __init__(self, gateway: Gateway, session: Session) -> None:
        self._gateway = gateway
        self._session = session
        self._began = time.monotonic()
        self._asked_at = self._began
        self._objection: GatewayError | None = None

    def look(self) -> End | None:
        """Why the session must end now; None while it may go on."""
        now, config = time.monotonic(), self._gateway.config
        hearing = self._session.hearing
        if self._objection is not None:
            return End(reason=SessionReason.KEY_REVOKED, error=self._objection)
        if now - self._began >= config.realtime_max_seconds:
            return End(reason=SessionReason.EXPIRED)
        if now - hearing.heard_at >= config.realtime_idle_seconds:
            return End(reason=SessionReason.IDLE)
        drained_at = self._gateway.realtime.drained_at
        if drained_at is not None and (not hearing.is_busy or now >= drained_at):
            return End(reason=SessionReason.DRAINING)
        return None

    async def refresh(self) -> None:
        """Ask, once a second, what the key may do now. Without a query while nothing has changed."""
        now = time.monotonic()
        if now - self._asked_at < ASKED_EVERY_SECONDS:
            return
        self._asked_at = now
        session = self._session
        try:
            caller = await self._gateway.directory.caller(session.key_digest)
            if caller is None:
                raise InvalidApiKeyError
            check_standing(caller)
            if session.call.requested_model not in caller.approved:
                raise ModelNotApprovedError(f"{session.call.requested_model!r} is not approved any more.")
        except GatewayError as error:
            self._objection = error
        except StaleDirectoryError:
            self._objection = OverloadedError("Keys cannot be looked up at the moment; the database does not answer.")
        except (OperationalError, InterfaceError):
            return  # what was known holds until it is stale
        else:
            if caller is not session.call.caller:
                session.follow(dataclasses.replace(session.call, caller=caller))

    def out_of_money(self) -> End:
        """The end of a session whose purse cannot be filled again."""
        refusal = self._session.purse.refusal
        if refusal is not None:
            return End(reason=SessionReason.BUDGET_EXCEEDED, error=BudgetRefusedError(refusal))
        error = OverloadedError("The ledger cannot be written at the moment, so the session cannot go on.")
        return End(reason=SessionReason.ERROR, error=error, code=TRY_LATER)
