"""Whether a chain is as it was written: every event from the first that is kept to the chain's head, in order.

Reads one month after the other, each by its place in the chain, and knows nothing of how `audit_append` works but the
form that is hashed. The form is a JSON array, so an auditor can compute it from an export with any tool.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection, transaction

from tenants.models import GENESIS, AuditChain

CHECKPOINT = "audit.month_dropped"
"""The event by which retention leaves in a chain what its kept part goes on from."""

AT_ONCE = 2000

MONTHS = """
SELECT part.relname FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid
WHERE inhparent = 'tenants_auditevent'::regclass ORDER BY part.relname
"""
ROWS = """
SELECT id, coalesce(tenant_id, 0), sequence, audit_micros(created_at), audit_micros(happened_at), event, actor_kind,
    actor_id, actor, address, object_type, object_id, object_name, data, digest
FROM {table} WHERE {where} ORDER BY coalesce(tenant_id, 0), sequence, id
"""


class Row(NamedTuple):
    """An event as it is hashed; moments are microseconds since 1970."""

    id: int
    chain: int
    sequence: int
    created_us: int
    happened_us: int
    event: str
    actor_kind: str
    actor_id: int | None
    actor: str
    address: str
    object_type: str
    object_id: str
    object_name: str
    data: str
    digest: str

    def digest_after(self, before: str) -> str:
        """What its digest must be after an event with that one."""
        form = json.dumps([before, *self[1:-1]], ensure_ascii=False)
        return hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()


class Place(NamedTuple):
    """An event's place in its chain, and its digest."""

    sequence: int
    digest: str


START = Place(0, GENESIS)


@dataclass(frozen=True, slots=True)
class Break:
    """The first event of a chain that does not hold, and what is wrong with it."""

    chain: int
    sequence: int
    says: str

    def __str__(self) -> str:
        return f"{chain_name(self.chain)}, event {self.sequence}: {self.says}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read, and the first bad event of each broken chain."""

    chains: int
    events: int
    breaks: list[Break]


def chain_name(chain: int) -> str:
    """A chain in words."""
    return f"tenant {chain}" if chain else "the platform"


class _Walk:
    """Along one chain, until its first break."""

    def __init__(self, chain: int, *, head: Place, base: Place, anchor: Place | None) -> None:
        self._chain = chain
        self._head = head
        self._base = base
        self._at = base
        self._anchor = anchor
        self._checkpoint = START
        self.found: Break | None = None

    def step(self, row: Row) -> None:
        """Read the next event."""
        if self.found is not None:
            return
        expected = self._at.sequence + 1
        if row.sequence > expected:
            self._broken(expected, "it is missing")
        elif row.sequence < expected:
            self._broken(row.sequence, "there is more than one, or it should be gone")
        elif row.digest_after(self._at.digest) != row.digest:
            self._broken(expected, "it or the one before it is not what was written")
        elif self._anchor is not None and row.sequence == self._anchor.sequence and row.digest != self._anchor.digest:
            self._broken(expected, "it is not the one of the exported head")
        if row.event == CHECKPOINT:
            self._remember(row)
        self._at = Place(row.sequence, row.digest)

    def _remember(self, row: Row) -> None:
        told = json.loads(row.data)
        self._checkpoint = Place(told["last_sequence"], told["last_digest"])

    def end(self) -> Break | None:
        """Nothing follows: is this where the chain ends?"""
        if self.found is None and self._at != self._head:
            if self._at.sequence < self._head.sequence:
                self._broken(self._at.sequence + 1, "it is missing: the chain's head is further")
            else:
                self._broken(self._at.sequence, "the chain's head does not know it")
        if self.found is None and self._anchor is not None and self._anchor.sequence > self._at.sequence:
            self._broken(self._at.sequence + 1, "it is missing: the exported head is further")
        if self.found is None and self._base.sequence and self._checkpoint != self._base:
            self._broken(self._base.sequence + 1, "what is before it was taken away, and not by retention")
        return self.found

    def _broken(self, sequence: int, says: str) -> None:
        self.found = Break(self._chain, sequence, says)


def verify(*, chain: int | None = None, anchors: Mapping[int, Place] | None = None) -> Verification:
    """Read every chain, or one, over one snapshot. Not to be called inside a transaction.

    `anchors`: heads that were exported, by chain.
    """
    anchors = anchors or {}
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        heads = AuditChain.objects.all() if chain is None else AuditChain.objects.filter(chain=chain)
        walks = {
            head.chain: _Walk(
                head.chain,
                head=Place(head.sequence, head.digest),
                base=Place(head.base_sequence, head.base_digest),
                anchor=anchors.get(head.chain),
            )
            for head in heads
        }
        events = 0
        for row in stored_rows(chain=chain):
            walk = walks.get(row.chain)
            if walk is None:
                walk = walks[row.chain] = _Walk(row.chain, head=START, base=START, anchor=anchors.get(row.chain))
            walk.step(row)
            events += 1
    for missing in anchors.keys() - walks.keys():
        if chain is None or chain == missing:
            walks[missing] = _Walk(missing, head=START, base=START, anchor=anchors[missing])
    found = [found for _, walk in sorted(walks.items()) if (found := walk.end()) is not None]
    return Verification(len(walks), events, found)


def stored_rows(*, chain: int | None = None, table: str = "") -> Iterator[Row]:
    """Events month by month, the oldest first; within a month chain by chain. Inside a transaction only."""
    where, parameters = "true", []
    if chain is not None:
        where, parameters = "tenant_id IS NOT DISTINCT FROM nullif(%s, 0)", [chain]
    for name in [table] if table else month_tables():
        with connection.chunked_cursor() as cursor:
            cursor.execute(ROWS.format(table=name, where=where), parameters)
            while rows := cursor.fetchmany(AT_ONCE):
                yield from map(Row._make, rows)


def month_tables() -> list[str]:
    """The partitions, the oldest first; the default one, which is empty but for accidents, is last."""
    with connection.cursor() as cursor:
        cursor.execute(MONTHS)
        return [row[0] for row in cursor.fetchall()]
