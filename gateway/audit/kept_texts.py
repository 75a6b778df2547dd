"""Prompts and answers, for tenants that keep them: sealed at once, apart from the events, and gone after their days.

The chained event has the SHA-256 of what was sealed: that a text was not exchanged can be proven while it is there, and
its going breaks no chain.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from typing import Any

import msgspec
from django.utils import timezone

from gateway.batched_rows import BatchedRows, Bounds
from gateway.context import Trace
from gateway.models import KeptText
from tenants.sealing import seal, unseal

logger = logging.getLogger(__name__)

MOST_BYTES = 256 * 1024
"""Of each side; what is longer is cut."""

BOUNDS = Bounds(at_once=20, kept=400)
PURGE_BATCH = 1000

INSERT = """
INSERT INTO gateway_kepttext (tenant_id, request_id, created_at, expires_at, request, answer)
SELECT tenant_id, request_id, created_at, expires_at, request, answer
FROM json_to_recordset($1::json) AS row(tenant_id bigint, request_id text, created_at timestamptz,
    expires_at timestamptz, request text, answer text)
"""


class CallText:
    """What a client sent and what it got, while a call is under way."""

    __slots__ = ("answer", "request")

    def __init__(self, request: bytes) -> None:
        self.request = request[:MOST_BYTES]
        self.answer = bytearray()

    def hear(self, message: dict[str, Any]) -> None:
        """Take what is sent to the client."""
        room = MOST_BYTES - len(self.answer)
        if room > 0 and message["type"] == "http.response.body":
            self.answer += message.get("body", b"")[:room]


class _Row(msgspec.Struct, kw_only=True):
    tenant_id: int
    request_id: str
    created_at: dt.datetime
    expires_at: dt.datetime
    request: str
    answer: str


class KeptTexts(BatchedRows[_Row]):
    """Seals and writes them."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo, INSERT, application_name="bursar-texts", bounds=BOUNDS)

    def keep(self, text: CallText, trace: Trace) -> str:
        """Seal a call's texts; returns the SHA-256 of what was sealed."""
        assert trace.caller is not None
        principal = trace.caller.principal
        bound_to = _bound_to(principal.tenant_id, trace.request_id)
        row = _Row(
            tenant_id=principal.tenant_id,
            request_id=trace.request_id,
            created_at=trace.started_at,
            expires_at=trace.started_at + dt.timedelta(days=principal.keep_text_days),
            request=seal(text.request, bound_to=bound_to),
            answer=seal(bytes(text.answer), bound_to=bound_to),
        )
        self._put(row)
        return digest_of(row.request, row.answer)

    def _say_repeated(self, reason: str) -> None:
        logger.warning("audit.texts_repeated", extra={"reason": reason})

    def _say_dropped(self, rows: int) -> None:
        logger.error("audit.texts_dropped", extra={"calls": rows})

    def _say_refused(self, rows: int, reason: str) -> None:
        logger.error("audit.texts_refused", extra={"calls": rows, "reason": reason})


def digest_of(request: str, answer: str) -> str:
    """What the event of a call's end has of its sealed texts."""
    return hashlib.sha256(f"{request}\n{answer}".encode()).hexdigest()


def read(row: KeptText) -> tuple[str, str]:
    """What the client sent and what it got. Raises `tenants.sealing.SealError`."""
    bound_to = _bound_to(row.tenant_id, row.request_id)
    request, answer = (unseal(sealed, bound_to=bound_to) for sealed in (row.request, row.answer))
    return request.decode("utf-8", "replace"), answer.decode("utf-8", "replace")


def purge_texts(*, batch: int = PURGE_BATCH) -> int:
    """Delete what has had its days, some at a time; returns of how many calls."""
    expired = KeptText.objects.filter(expires_at__lt=timezone.now()).order_by("expires_at")
    purged = 0
    while ids := list(expired.values_list("pk", flat=True)[:batch]):
        purged += KeptText.objects.filter(pk__in=ids).delete()[0]
    return purged


def _bound_to(tenant_id: int, request_id: str) -> bytes:
    return f"text:{tenant_id}:{request_id}".encode()
