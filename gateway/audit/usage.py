"""Usage elsewhere: each call that used something, to the sinks of USAGE_SINKS, in batches.

The ledger has every charge whatever happens here; what a sink does not take in time is dropped and counted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Sequence
from typing import Any

from billing.money import usd
from gateway.audit.sinks import Record, Sink, SinkError
from gateway.context import Trace
from providers.transport import Transport

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
AT_ONCE = 500
KEPT = 20_000


class UsageFeed:
    """Collects what calls used and sends it; nothing at all without a sink."""

    def __init__(self, sinks: Sequence[Sink], transport: Transport) -> None:
        self._transport = transport
        self._waiting: dict[Sink, list[Record]] = {sink: [] for sink in sinks}
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        if self._waiting:
            self._task = asyncio.get_running_loop().create_task(self._keep_sending())

    async def close(self) -> None:
        """Send what is left, once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            await asyncio.gather(*map(self._send_all, self._waiting))
        if lost := self._dropped + sum(map(len, self._waiting.values())):
            logger.warning("usage.records_dropped", extra={"records": lost})

    def add(self, trace: Trace) -> None:
        """Take a call that is over and has used something."""
        if not self._waiting or trace.caller is None or trace.usage is None:
            return
        record = _record(trace)
        for waiting in self._waiting.values():
            if len(waiting) < KEPT:
                waiting.append(record)
            else:
                self._dropped += 1

    async def _keep_sending(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await asyncio.gather(*map(self._send_all, self._waiting))

    async def _send_all(self, sink: Sink) -> None:
        """Send until nothing waits, or the sink does not take it: then it waits for the next time."""
        waiting = self._waiting[sink]
        while waiting:
            batch = waiting[:AT_ONCE]
            try:
                await sink.send(batch, transport=self._transport)
            except SinkError as error:
                logger.warning("usage.sink_failed", extra={"sink": sink.name, "reason": str(error)})
                return
            del waiting[: len(batch)]


def _record(trace: Trace) -> dict[str, Any]:
    assert trace.caller is not None and trace.usage is not None
    principal = trace.caller.principal
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return {
        "time": trace.started_at.isoformat(),
        "time_unix_us": (trace.started_at - epoch) // dt.timedelta(microseconds=1),
        "event": "usage",
        "request_id": trace.request_id,
        "tenant": principal.tenant_name,
        "project": principal.project_name or None,
        "api_key": principal.key_name,
        "operation": trace.operation,
        "model": trace.target.model_name if trace.target else None,
        "provider": trace.target.provider_name if trace.target else None,
        "input_tokens": trace.usage.input_tokens,
        "output_tokens": trace.usage.output_tokens,
        "cache_read_tokens": trace.usage.cache_read_tokens,
        "cost_usd": usd(trace.cost_nano_usd) if trace.cost_nano_usd is not None else None,
    }
