"""A provider's figures beside the ledger's, by UTC day and by the provider's name for the model."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.db import connection, transaction

from billing.models import ReconciliationRow, ReconciliationRun
from billing.reconciliation.export import ExportFile, Used
from providers.models import Deployment, Provider
from tenants.models import Operator

# A call is on the day it was posted. Providers count it when it began or ended: a midnight may be between.
OURS = """
SELECT (created_at AT TIME ZONE 'UTC')::date, upstream_model, sum(input_tokens + output_tokens)::bigint,
    sum(cost_nano_usd)::bigint
FROM billing_usagerecord
WHERE provider_name = %(provider)s AND created_at >= %(start)s AND created_at < %(end)s
GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far their figure is from ours; positive when they say more."""

    theirs: int
    ours: int

    @property
    def difference(self) -> int:
        return self.theirs - self.ours

    @property
    def percent(self) -> Decimal | None:
        """Of ours; None when we have nothing."""
        return Decimal(self.difference * 100) / self.ours if self.ours else None

    @property
    def stands_out(self) -> bool:
        """More than one percent, or theirs without ours."""
        return self.difference != 0 and (self.percent is None or abs(self.percent) > 1)


def reconcile(provider: Provider, export: ExportFile, *, by: Operator | None) -> ReconciliationRun:
    """Compare an export with the ledger and keep both as they are now."""
    ours = _ours(provider, export)
    known = {model for _, model in ours} | set(
        Deployment.objects.filter(provider=provider).values_list("upstream_model", flat=True)
    )
    keys = sorted(export.used.keys() | ours.keys())
    theirs_sum, ours_sum = _sum(export.used.values()), _sum(ours.values())
    with transaction.atomic():
        run = ReconciliationRun.objects.create(
            provider=provider,
            file_name=export.name[:255],
            file_hash=export.sha256,
            first_day=export.first_day,
            last_day=export.last_day,
            lines=export.lines,
            their_tokens=theirs_sum.tokens,
            our_tokens=ours_sum.tokens,
            their_cost_nano_usd=theirs_sum.cost_nano_usd,
            our_cost_nano_usd=ours_sum.cost_nano_usd,
            created_by=by,
        )
        ReconciliationRow.objects.bulk_create(
            [
                _row(run, key, theirs=export.used.get(key, Used()), ours=ours.get(key, Used()), known=known)
                for key in keys
            ],
            batch_size=2_000,
        )
    return run


def _ours(provider: Provider, export: ExportFile) -> dict[tuple[dt.date, str], Used]:
    """What the ledger has of this provider in the export's days. One query."""
    start = dt.datetime.combine(export.first_day, dt.time(), dt.UTC)
    end = dt.datetime.combine(export.last_day, dt.time(), dt.UTC) + dt.timedelta(days=1)
    with connection.cursor() as cursor:
        cursor.execute(OURS, {"provider": provider.name, "start": start, "end": end})
        return {(day, model): Used(tokens, cost) for day, model, tokens, cost in cursor.fetchall()}


def _sum(figures: Iterable[Used]) -> Used:
    figures = list(figures)
    return Used(sum(one.tokens for one in figures), sum(one.cost_nano_usd for one in figures))


def _row(
    run: ReconciliationRun, key: tuple[dt.date, str], *, theirs: Used, ours: Used, known: set[str]
) -> ReconciliationRow:
    day, model = key
    return ReconciliationRow(
        run=run,
        day=day,
        model=model,
        known=model in known,
        their_tokens=theirs.tokens,
        our_tokens=ours.tokens,
        their_cost_nano_usd=theirs.cost_nano_usd,
        our_cost_nano_usd=ours.cost_nano_usd,
    )
