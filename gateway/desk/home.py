"""The operators' home: what needs somebody now, the figures of the platform, and who spends on what."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from billing.models import BooksCheck
from gateway.desk.figures import home_figures, through
from gateway.desk.first_steps import curl_line, first_steps
from gateway.desk.kept import NEEDS, kept
from gateway.desk.needs import find_needs
from gateway.desk.panels import RANGES, USUAL, panels

RANGE_SECONDS = {"24h": 15, "7d": 60, "30d": 60}


def fill_home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the home page shows: a fixed number of queries, none of them over usage."""
    now = timezone.now()
    asked = request.GET.get("range", USUAL)
    chosen = RANGES.get(asked, RANGES[USUAL])
    steps = first_steps()
    context.update(
        title="Home",
        now=now,
        through=through(now),
        steps=steps,
        curl=curl_line() if steps else "",
        needs=kept(NEEDS, lambda: find_needs(now)),
        may_decide=request.user.has_perm("providers.change_tenantapproval"),
        figures=home_figures(now),
        ranges=RANGES.values(),
        chosen=chosen,
        range_problem="" if asked in RANGES else f"range must be one of {', '.join(RANGES)}.",
        panels=kept(f"panels:{chosen.name}", lambda: panels(chosen, now), seconds=RANGE_SECONDS[chosen.name]),
        books=BooksCheck.objects.first(),
    )
    return context
