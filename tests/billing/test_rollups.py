"""Sums that are read from buckets are those of the entries, however a range is cut, and whoever posts at once."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections import defaultdict
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db import connection

from billing.entries import new_attempt_id
from billing.ledger import Ledger
from billing.models import Budget, Entry, UsageDay, UsageHour, UsageRecord
from billing.usage_sums import BY_DAY, BY_USER, FIGURES, Stretch, UsageSums, group_usage, sum_usage
from tenants.models import Tenant
from tests.admin.seeding import add_usage
from tests.billing.books import hold_of, verified
from tests.billing.test_ledger import reservation, settlement
from tests.factories import make_key, make_model, make_provider, make_tenant

BEGIN = dt.datetime(2026, 3, 25, tzinfo=dt.UTC)
"""The clocks of Berlin go forward on the 29th."""
ENTRIES = 80


GROUPINGS: tuple[tuple[str, ...], ...] = ((), (BY_DAY,), (BY_USER,), ("model_name",), ("api_key_id", "ending"))


@pytest.fixture
def tenant(db: None) -> Tenant:
    """A week of charges at moments that are on an hour, beside it, and half past."""
    tenant = make_tenant()
    keys = [make_key(tenant)[0] for _ in range(2)]
    deployments = [make_model(make_provider("https://a.example.com/v1")).deployments.get() for _ in range(2)]
    dice = random.Random(3)
    for _ in range(ENTRIES):
        moment = BEGIN + dt.timedelta(hours=dice.randrange(7 * 24))
        moment += dice.choice([dt.timedelta(0), dt.timedelta(microseconds=-1), dt.timedelta(minutes=31)])
        add_usage(
            dice.choice(keys),
            dice.choice(deployments),
            created_at=moment,
            user=dice.choice(["", "u-1", "u-2"]),
            cost_nano_usd=dice.randrange(1000),
            ending=dice.choice(["completed", "failed"]),
        )
    return tenant


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_any_range_is_exact(tenant: Tenant, zone: str) -> None:
    dice, where = random.Random(zone), ZoneInfo(zone)
    rows = list(Entry.objects.filter(tenant=tenant))
    moments = [BEGIN - dt.timedelta(days=2), BEGIN + dt.timedelta(days=9)]
    moments += [row.starts_at for row in rows[:10]]
    moments += [BEGIN + dt.timedelta(minutes=dice.randrange(7 * 24 * 60)) for _ in range(10)]
    for _ in range(12):
        start, end = sorted(dice.sample(moments, 2))
        for group_by in GROUPINGS:
            expected: dict[tuple[Any, ...], UsageSums] = defaultdict(UsageSums)
            for row in rows:
                if start <= row.starts_at < end:
                    day = row.starts_at.astimezone(where).date()
                    key = tuple(day if name == BY_DAY else getattr(row, name) for name in group_by)
                    expected[key] += UsageSums(**{name: getattr(row, name) for name in FIGURES})
            stretch = Stretch(start=start, end=end)
            found = group_usage(group_by, stretch, narrow=lambda some: some.filter(tenant=tenant), zone=where)
            assert {key: sums for key, sums in found if sums != UsageSums()} == expected, (start, end, group_by)


def test_without_an_end_it_is_until_now(tenant: Tenant) -> None:
    stretch = Stretch(start=BEGIN - dt.timedelta(hours=1))
    assert sum_usage(stretch, narrow=lambda some: some.filter(tenant=tenant)).calls == ENTRIES


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_processes_that_share_tenants_do_not_wait_for_each_other_in_circles(self) -> None:
        """Five ledgers settle calls of four tenants, in batches of any order."""
        budgets = [Budget.objects.create(tenant=make_tenant(), limit_nano_usd=10**12) for _ in range(4)]

        async def work() -> None:
            ledgers = [Ledger(settings.DATABASE_CONNINFO) for _ in range(5)]
            await asyncio.gather(
                *(_calls(ledger, budgets, dice=random.Random(seed)) for seed, ledger in enumerate(ledgers))
            )
            await asyncio.gather(*(ledger.close() for ledger in ledgers))

        deadlocks = _deadlocks()
        asyncio.run(work())
        assert UsageRecord.objects.count() == 5 * 200
        assert _deadlocks() == deadlocks
        assert sum(UsageDay.objects.values_list("calls", flat=True)) == 5 * 200
        assert UsageHour.objects.count() <= 4 * 6 * 2, "a tenant's calls of a model are one row an hour"
        verified()


async def _calls(ledger: Ledger, budgets: list[Budget], *, dice: random.Random) -> None:
    async def call() -> None:
        budget = dice.choice(budgets)
        attempt_id = new_attempt_id()
        await ledger.reserve(
            reservation(
                attempt_id, tenant_id=budget.tenant_id, fixed_nano_usd=900, max_output_tokens=0, holds=[hold_of(budget)]
            )
        )
        await ledger.settle(
            settlement(
                attempt_id,
                tenant_id=budget.tenant_id,
                model_name=dice.choice("abc"),
                user=dice.choice("xyz"),
                ending=dice.choice(["completed", "failed"]),
                cost_nano_usd=dice.randrange(1000),
            )
        )

    await asyncio.gather(*(call() for _ in range(200)))


def _deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])
