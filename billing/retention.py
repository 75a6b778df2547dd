"""Months of usage: made ahead of their time, and dropped whole when they are older than is kept.

What a dropped month was charged stays in its budgets' windows: the part of `spent` whose charges are gone is noted
there as archived, in the transaction that drops them, so that `verify_money` balances to the nano-USD before and after.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import OperationalError, connection, transaction
from django.db.models import Min
from django.utils import timezone

from billing.models import Statement, StatementState

MONTHS_AHEAD = 3
FEWEST_MONTHS = 2
"""Besides the one under way: the last one's statement is made in the next."""
LOCK_TRIES = 30
LOCK_PAUSE_SECONDS = 1.0

PARTITIONS = """
SELECT month.relname, greatest(month.reltuples, 0)::bigint, pg_total_relation_size(month.oid)
FROM pg_inherits JOIN pg_class month ON month.oid = inhrelid
WHERE inhparent = 'billing_usagerecord'::regclass AND month.relname <> 'billing_usagerecord_default'
ORDER BY month.relname
"""
MAKE = "SELECT ledger_make_partitions(now(), %s)"

SPENT = """
CREATE TEMPORARY TABLE retired_spending ON COMMIT DROP AS
SELECT window_id, sum(charge.cost_nano_usd)::bigint AS nano_usd
FROM {month} charge JOIN billing_attempt attempt ON attempt.id = charge.attempt_id, unnest(attempt.windows) AS window_id
GROUP BY window_id
"""
DELETE_SETTLED = "DELETE FROM billing_attempt USING {month} charge WHERE billing_attempt.id = charge.attempt_id"
DELETE_VOIDED = "DELETE FROM billing_attempt WHERE state = 'voided' AND created_at < %s AND ended_at < %s"
DELETE_HOURS = "DELETE FROM billing_usagehour WHERE starts_at < %s"
DELETE_USERS = "DELETE FROM billing_userday WHERE starts_at < %s"

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"
LOCK = "LOCK TABLE billing_usagerecord IN ACCESS EXCLUSIVE MODE"
"""Before the windows: a settle has the table before it wants them."""
LOCK_WINDOWS = """
SELECT FROM billing_budgetwindow WHERE id IN (SELECT window_id FROM retired_spending) ORDER BY id FOR NO KEY UPDATE
"""
ARCHIVE = """
UPDATE billing_budgetwindow held SET archived_nano_usd = held.archived_nano_usd + retired_spending.nano_usd
FROM retired_spending WHERE retired_spending.window_id = held.id
"""
DROP = "ALTER TABLE billing_usagerecord DETACH PARTITION {month}; DROP TABLE {month}"


@dataclass(frozen=True, slots=True)
class UsageMonth:
    """A partition: its table, its first day, about how many charges it has, and its size with its indexes."""

    table: str
    starts_at: dt.datetime
    charges: int
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m}: about {self.charges:,} charges, {self.size_bytes / 1e6:,.0f} MB"

    @property
    def ends_at(self) -> dt.datetime:
        """The first moment of the next month."""
        return (self.starts_at + dt.timedelta(days=32)).replace(day=1)


@dataclass(frozen=True, slots=True)
class Retired:
    """What went with a month."""

    attempts: int
    buckets: int


def retain_usage(months: int, *, say: Callable[[str], None]) -> None:
    """Make the coming months and drop those that are older than so many, telling of each."""
    say(f"Partitions made for coming months: {make_partitions()}.")
    expired = expired_months(months, needed_from=needed_from())
    for month in expired:
        say(f"Dropping {month} ...")
        gone = retire(month, say=say)
        say(f"Dropped, with {gone.attempts:,} attempts and {gone.buckets:,} buckets.")
    if not expired:
        say(nothing_expired(months))
    with connection.cursor() as cursor:  # autovacuum sees to the months, not to what they are together
        cursor.execute("ANALYZE billing_usagerecord")


def needed_from() -> dt.datetime | None:
    """The beginning of the oldest statement that is still a draft; None without one."""
    oldest: dt.datetime | None = Statement.objects.filter(state=StatementState.DRAFT).aggregate(Min("starts_at"))[
        "starts_at__min"
    ]
    return oldest


def nothing_expired(months: int) -> str:
    """What is said when there is nothing to drop."""
    return f"No month is older than the {months} that are kept."


def make_partitions() -> int:
    """Make the month under way and those to come where they are missing; returns how many were made."""
    with connection.cursor() as cursor:
        cursor.execute(MAKE, [1 + MONTHS_AHEAD])
        return int(cursor.fetchone()[0])


def usage_months() -> list[UsageMonth]:
    """The months there are, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(PARTITIONS)
        return [UsageMonth(row[0], _first_day(row[0]), *row[1:]) for row in cursor.fetchall()]


def _first_day(table: str) -> dt.datetime:
    return dt.datetime.strptime(table[-7:], "%Y_%m").replace(tzinfo=dt.UTC)


def expired_months(keep_months: int, *, needed_from: dt.datetime | None = None) -> list[UsageMonth]:
    """The months that are older than so many, the oldest first, besides the one under way.

    `needed_from` is the first moment of what a statement that is not issued yet is made of: no month is dropped that
    reaches beyond it. Raises ValueError for fewer than `FEWEST_MONTHS`.
    """
    if keep_months < FEWEST_MONTHS:
        raise ValueError(f"At least {FEWEST_MONTHS} months of usage are kept.")
    now = timezone.now().astimezone(dt.UTC)
    newest = now.year * 12 + now.month - keep_months
    return [
        month
        for month in usage_months()
        if month.starts_at.year * 12 + month.starts_at.month < newest
        and (needed_from is None or month.ends_at <= needed_from)
    ]


def retire(month: UsageMonth, *, say: Callable[[str], None] = lambda line: None) -> Retired:
    """Drop a month's charges with their attempts and its hours' and users' buckets; the days' buckets stay.

    All in one transaction, which locks the ledger only at its end and for milliseconds; a month is there or gone.
    Raises `OperationalError` when the ledger could not be locked in time; then nothing has changed.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(SPENT.format(month=month.table))
        say("Deleting its attempts ...")
        cursor.execute(DELETE_SETTLED.format(month=month.table))
        attempts = cursor.rowcount
        cursor.execute(DELETE_VOIDED, [month.ends_at, month.ends_at])
        attempts += cursor.rowcount
        say("Deleting its buckets of hours and users ...")
        cursor.execute(DELETE_HOURS, [month.ends_at])
        buckets = cursor.rowcount
        cursor.execute(DELETE_USERS, [month.ends_at])
        buckets += cursor.rowcount
        _lock_ledger(say)
        cursor.execute(LOCK_WINDOWS)
        cursor.execute(ARCHIVE)
        cursor.execute(DROP.format(month=month.table))
    return Retired(attempts, buckets)


def _lock_ledger(say: Callable[[str], None]) -> None:
    """A reader that takes long must not stop the ledger with us: wait in short tries."""
    for remaining in reversed(range(LOCK_TRIES)):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(LOCK_TIMEOUT)
                cursor.execute(LOCK)
            return
        except OperationalError:
            if not remaining:
                raise
            say("The ledger is being read; trying again ...")
            time.sleep(LOCK_PAUSE_SECONDS)
