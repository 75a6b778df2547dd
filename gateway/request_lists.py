"""The list of requests: a page by its keyset, what its rows cost in one more query, and three kinds of none."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection, transaction
from django.http import HttpRequest

from billing.admin.windows import CURSOR, KeysetChangeList
from billing.models import UsageRecord
from gateway.models import RequestRecord
from gateway.request_costs import CostParts, parts_of

LIST_TIMEOUT_MS = 2000
"""An index answers in a few; whoever looks must not slow down what writes."""

SETTLING = dt.timedelta(hours=1)
"""A charge is posted soon after its request; the months after that are not looked at."""


class RequestChangeList(KeysetChangeList):
    """Requests with their costs; says so when the database takes too long."""

    failed: bool
    chips: list[tuple[str, str]]
    """Each filter that is set, and where the list is without it."""
    newest_at: dt.datetime | None
    """Of all requests, where none is shown."""

    def get_results(self, request: HttpRequest) -> None:
        self.failed, self.newest_at, self.chips = False, None, []
        try:
            with transaction.atomic():
                _allow(LIST_TIMEOUT_MS)
                super().get_results(request)
                _price(self.result_list)
                if not self.result_list:
                    newest = RequestRecord.objects.order_by("-created_at", "-id").first()
                    self.newest_at = newest.created_at if newest else None
        except OperationalError:
            self.failed = True
            self.queryset = RequestRecord.objects.none()
            super().get_results(request)
        self.chips = self._chips()

    def _chips(self) -> list[tuple[str, str]]:
        """The filters that are set, except the time, which the panel above shows."""
        found = []
        for spec in self.filter_specs:
            names = [name for name in spec.expected_parameters() if name and name in self.params]
            if names and not any(name.startswith("created_at") for name in names):
                value = self.params[names[0]]
                words = value[-1] if isinstance(value, list) else value
                found.append((f"{spec.title}: {words}", self.get_query_string(remove=[*names, CURSOR])))
        return found


def _allow(milliseconds: int) -> None:
    """Until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(milliseconds)])


def _price(rows: list[Any]) -> None:
    """Give each row its `cost`: one query for all of them, by the ids of their attempts."""
    attempts = {UUID(note["attempt"]): row for row in rows for note in row.attempts}
    charges: dict[int, list[UsageRecord]] = {}
    if attempts:
        first, last = min(row.created_at for row in rows), max(row.created_at for row in rows)
        found = UsageRecord.objects.filter(
            pk__in=list(attempts), created_at__gte=first - SETTLING, created_at__lte=last + SETTLING
        )
        for charge in found.only("attempt_id", "price_id", "usage_source", "cost_nano_usd", "created_at"):
            charges.setdefault(attempts[charge.pk].pk, []).append(charge)
    for row in rows:
        row.cost = parts_of(charges.get(row.pk, [])) if row.attempts else CostParts()
