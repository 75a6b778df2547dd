"""Prompts and answers, for tenants that keep them: sealed at once, apart from the events, and gone after their days.

The chained event has a SHA-256 of the text and of a nonce that is sealed with it. So that a text was not exchanged can
be proven while it is there, also after it was sealed with another key, and its going breaks no chain. Without the nonce
nobody can try out what a short prompt may have been.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
from typing import Any, NamedTuple

import msgspec
from django.db import transaction
from django.utils import timezone

from gateway.batched_rows import BatchedRows, Bounds
from gateway.context import Trace
from gateway.models import KeptText
from tenants.sealing import SealError, is_sealed_with_first_key, seal, unseal

logger = logging.getLogger(__name__)

MOST_BYTES = 256 * 1024
"""Of each side; what is longer is cut."""

NONCE_BYTES = 16
"""In front of the request, before it is sealed."""

BOUNDS = Bounds(at_once=20, kept=400)
PURGE_BATCH = 1000
RESEAL_BATCH = 200

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
        """Seal a call's texts; returns what the event of its end has of them."""
        assert trace.caller is not None
        nonce, answer = os.urandom(NONCE_BYTES), bytes(text.answer)
        principal = trace.caller.principal
        bound_to = _bound_to(principal.tenant_id, trace.request_id)
        row = _Row(
            tenant_id=principal.tenant_id,
            request_id=trace.request_id,
            created_at=trace.started_at,
            expires_at=trace.started_at + dt.timedelta(days=principal.keep_text_days),
            request=seal(nonce + text.request, bound_to=bound_to),
            answer=seal(answer, bound_to=bound_to),
        )
        self._put(row)
        return digest_of(nonce, text.request, answer=answer)

    def _say_repeated(self, reason: str) -> None:
        logger.warning("audit.texts_repeated", extra={"reason": reason})

    def _say_dropped(self, rows: int) -> None:
        logger.error("audit.texts_dropped", extra={"calls": rows})

    def _say_refused(self, rows: int, reason: str) -> None:
        logger.error("audit.texts_refused", extra={"calls": rows, "reason": reason})


def digest_of(nonce: bytes, request: bytes, *, answer: bytes) -> str:
    """What the event of a call's end has of its texts."""
    return hashlib.sha256(b"%b%d:%b%b" % (nonce, len(request), request, answer)).hexdigest()


class OpenedText(NamedTuple):
    """What the client sent and what it got, and the digest that the event of its end must have."""

    request: str
    answer: str
    digest: str


def read(row: KeptText) -> OpenedText:
    """Open a text. Raises `tenants.sealing.SealError`."""
    bound_to = _bound_to(row.tenant_id, row.request_id)
    opened, answer = (unseal(sealed, bound_to=bound_to) for sealed in (row.request, row.answer))
    nonce, request = opened[:NONCE_BYTES], opened[NONCE_BYTES:]
    digest = digest_of(nonce, request, answer=answer)
    return OpenedText(request.decode("utf-8", "replace"), answer.decode("utf-8", "replace"), digest)


def seal_texts_anew(*, batch: int = RESEAL_BATCH) -> tuple[int, int]:
    """Seal every text with the first key that is not yet, some at a time; returns how many were and how many no key
    opens, which stay as they are. May be broken off and repeated."""
    done = unopened = last = 0
    while rows := list(KeptText.objects.filter(pk__gt=last).order_by("pk")[:batch]):
        last = rows[-1].pk
        with transaction.atomic():
            for row in rows:
                try:
                    done += _seal_anew(row)
                except SealError:
                    unopened += 1
    return done, unopened


def _seal_anew(row: KeptText) -> bool:
    if is_sealed_with_first_key(row.request) and is_sealed_with_first_key(row.answer):
        return False
    bound_to = _bound_to(row.tenant_id, row.request_id)
    request, answer = (
        seal(unseal(sealed, bound_to=bound_to), bound_to=bound_to) for sealed in (row.request, row.answer)
    )
    return bool(KeptText.objects.filter(pk=row.pk).update(request=request, answer=answer))


def purge_texts(*, batch: int = PURGE_BATCH) -> int:
    """Delete what has had its days, some at a time; returns of how many calls."""
    expired = KeptText.objects.filter(expires_at__lt=timezone.now()).order_by("expires_at")
    purged = 0
    while ids := list(expired.values_list("pk", flat=True)[:batch]):
        purged += KeptText.objects.filter(pk__in=ids).delete()[0]
    return purged


def _bound_to(tenant_id: int, request_id: str) -> bytes:
    return f"text:{tenant_id}:{request_id}".encode()
