"""Months go whole, and what is kept still verifies; a month that does not verify stays."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.utils import timezone

from gateway.audit.retention import BrokenMonthError, expired_months, retain_audit
from gateway.audit.verification import Place, verify
from tenants.audit import SYSTEM, Subject, record
from tenants.models import AuditChain, AuditEvent
from tests import factories


def told(tenant: int, months_ago: int = 0) -> None:
    """An event, chained as if the database's clock had been so many months back."""
    record("thing.done", by=SYSTEM, about=Subject(type="thing", id="1", tenant_id=tenant), details={})
    if not months_ago:
        return
    moment = timezone.now() - dt.timedelta(days=31 * months_ago)
    head = AuditChain.objects.get(chain=tenant)
    before = AuditEvent.objects.filter(tenant=tenant, sequence=head.sequence - 1).first()
    follows = before.digest if before is not None else head.base_digest
    last = AuditEvent.objects.filter(tenant=tenant, sequence=head.sequence)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        last.update(created_at=moment)
        cursor.execute(
            "UPDATE tenants_auditevent place SET digest = audit_digest(%s, place) WHERE id = %s",
            [follows, last.get().pk],
        )
        AuditChain.objects.filter(chain=tenant).update(digest=last.get().digest, appended_at=moment)


@pytest.fixture
def tenant(committed: None) -> Iterator[int]:
    """One with events of half a year ago, of two months ago and of now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_make_partitions(now() - interval '8 months', 9)")
    chain = factories.make_tenant().pk
    for months_ago in (7, 7, 6, 2, 0):
        told(chain, months_ago)
    assert broken(chain) == []
    yield chain


def broken(chain: int) -> list[str]:
    return [str(found) for found in verify(chain=chain).breaks]


def test_old_months_go_and_the_chain_goes_on(tenant: int) -> None:
    said: list[str] = []
    kept = AuditEvent.objects.filter(tenant=tenant)
    third = kept.get(sequence=3)
    retain_audit(4, say=said.append)
    assert list(kept.order_by("sequence").values_list("sequence", "event")) == [
        (4, "thing.done"), (5, "thing.done"), (6, "audit.month_dropped"), (7, "audit.month_dropped"),
    ]  # fmt: skip
    head = AuditChain.objects.get(chain=tenant)
    assert Place(head.base_sequence, head.base_digest) == Place(3, third.digest)
    assert kept.get(sequence=7).details == {"last_sequence": 3, "last_digest": third.digest, "events": 1}
    assert broken(tenant) == [] and expired_months(4) == []
    assert any("Dropped the audit events of" in line for line in said)
    told(tenant)
    retain_audit(4, say=said.append)
    retain_audit(0, say=said.append)
    assert kept.count() == 5 and broken(tenant) == []


def test_a_month_that_does_not_verify_is_kept(tenant: int) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE tenants_auditevent SET actor = 'x' WHERE tenant_id = %s AND sequence = 2", [tenant])
    with pytest.raises(BrokenMonthError, match=f"tenant {tenant}, event 2 does not follow"):
        retain_audit(4, say=lambda line: None)
    assert AuditEvent.objects.filter(tenant=tenant).count() == 5
    assert broken(tenant) == [f"tenant {tenant}, event 2: it or the one before it is not what was written"]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE tenants_auditevent SET actor = '' WHERE tenant_id = %s AND sequence = 2", [tenant])
    retain_audit(4, say=lambda line: None)
    assert broken(tenant) == []
