"""The audit log of calls: events are collected and chained by the hundred, so that a call waits for none of it.

`audit_append` in the database gives them their places, so that any number of processes write the same chains.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.audit.events import EventRow, ended, started
from gateway.audit.kept_texts import CallText, KeptTexts
from gateway.audit.refusals import Refusals
from gateway.batched_rows import BatchedRows, Bounds
from gateway.body_stream import BodyStream
from gateway.context import Call, Caller, Trace
from gateway.errors import GatewayError

logger = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]
BOUNDS = Bounds(kept=100_000)
APPEND = "SELECT audit_append($1::json)"


class AuditLog(BatchedRows[EventRow]):
    """Writes what happens to calls."""

    def __init__(self, conninfo: str, *, enabled: bool, bounds: Bounds = BOUNDS) -> None:
        super().__init__(conninfo, APPEND, application_name="bursar-audit", bounds=bounds)
        self._enabled = enabled
        self._refusals = Refusals(self._put)
        self.texts = KeptTexts(conninfo)

    def start(self) -> None:
        super().start()
        self.texts.start()

    async def close(self) -> None:
        self._refusals.flush()
        await super().close()
        await self.texts.close()

    def started(self, call: Call, trace: Trace) -> None:
        """A call goes into the pipeline."""
        if self._enabled:
            self._put(started(call, trace))

    def refused(self, caller: Caller | None, error: GatewayError, *, meta: Mapping[str, Any], address: str) -> None:
        """A key was refused; without a `caller` it is nobody's."""
        if self._enabled:
            self._refusals.note(caller, error, meta=meta, address=address)

    def overheard(self, send: Send, trace: Trace, *, body: bytes | BodyStream) -> Send:
        """A `send` that keeps the text of a call for a tenant that wants it; the same one for all others, and for
        forms, which carry files."""
        if (
            isinstance(body, BodyStream)
            or trace.caller is None
            or not trace.caller.principal.keep_text_days
            or not trace.operation
        ):
            return send
        text = trace.text = CallText(body)

        async def send_and_keep(message: dict[str, Any]) -> None:
            text.hear(message)
            await send(message)

        return send_and_keep

    def ended(self, trace: Trace) -> None:
        """A call is over. Silent for what is no call of a tenant's."""
        if trace.caller is None or not trace.operation:
            return
        digest = self.texts.keep(trace.text, trace) if trace.text is not None else ""
        if self._enabled:
            for row in ended(trace, text_sha256=digest):
                self._put(row)

    def _say_repeated(self, reason: str) -> None:
        logger.warning("audit.write_repeated", extra={"reason": reason})

    def _say_dropped(self, rows: int) -> None:
        logger.error("audit.events_dropped", extra={"events": rows})

    def _say_refused(self, rows: int, reason: str) -> None:
        logger.error("audit.events_refused", extra={"events": rows, "reason": reason})
