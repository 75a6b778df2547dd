"""GET /v1/usage: what the caller's tenant has used, and what it cost."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse

from billing.errors import UsageReportError
from billing.money import usd
from billing.usage_reports import GROUPS, report_usage
from billing.usage_sums import Stretch, UsageSums
from gateway.errors import OverloadedError, ValidationError
from gateway.handler import DataPlaneRequest
from gateway.responses import json_response
from gateway.views import DataPlaneView
from tenants.models import Scope

DEFAULT_DAYS = 30
LONGEST_DAYS = 92
"""A quarter."""

ONE_DAY = dt.timedelta(days=1)
LONGEST = LONGEST_DAYS * ONE_DAY + dt.timedelta(hours=1)
"""The day on which clocks are set back has an hour more."""


class UsageView(DataPlaneView):
    """Sums of requests, tokens and cost; `?from=&to=&group_by=` choose which."""

    scope = Scope.USAGE

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer one entry for each group, and the total; amounts are USD as exact decimal strings."""
        assert request.trace.caller is not None
        principal, zone = request.trace.caller.principal, request.trace.caller.zone
        group_by = request.GET.get("group_by", "model")
        if group_by not in GROUPS:
            raise ValidationError(f"group_by is one of {', '.join(GROUPS)}.", param="group_by")
        now = dt.datetime.now(dt.UTC)
        start, end = _range(request.GET.get("from"), request.GET.get("to"), zone=zone, now=now)
        stretch = Stretch(start=start, end=end if end < now else None)

        def report() -> Any:
            return report_usage(principal.tenant_id, group_by, stretch=stretch, zone=principal.timezone)

        try:
            async with request.gateway.reporting:
                groups = await request.gateway.directory.query(report)
        except UsageReportError as error:
            raise ValidationError(str(error), param="from") from error
        except (DatabaseError, InterfaceError) as error:
            raise OverloadedError("The usage cannot be read now.") from error
        body = {
            "object": "usage",
            "from": start.isoformat(),
            "to": end.isoformat(),
            "time_zone": principal.timezone,
            "group_by": group_by,
            "data": [{group_by: group.name, **_figures(group.sums)} for group in groups],
            "total": _figures(sum((group.sums for group in groups), UsageSums())),
        }
        return json_response(orjson.dumps(body))


def _figures(sums: UsageSums) -> dict[str, int | str]:
    return {
        "requests": sums.calls,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "cache_read_tokens": sums.cache_read_tokens,
        "cache_write_tokens": sums.cache_write_tokens,
        "reasoning_tokens": sums.reasoning_tokens,
        "unpriced_requests": sums.unpriced_calls,
        "cost_usd": usd(sums.cost_nano_usd),
    }


def _range(first: str | None, last: str | None, *, zone: ZoneInfo, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """From when to before when, in UTC. Days are those of the tenant's time zone, and the last one is whole."""
    end = _moment(last, "to", zone=zone, whole_day=True) if last else now
    if first:
        start = _moment(first, "from", zone=zone)
    else:
        first_day = (end - dt.timedelta(microseconds=1)).astimezone(zone).date() - (DEFAULT_DAYS - 1) * ONE_DAY
        start = _midnight(first_day, zone)
    if start >= end:
        raise ValidationError("from must be earlier than to.", param="from")
    if end - start > LONGEST:
        raise ValidationError(f"A range has at most {LONGEST_DAYS} days.", param="from")
    return start, end


def _moment(text: str, param: str, *, zone: ZoneInfo, whole_day: bool = False) -> dt.datetime:
    """A day such as 2026-11-21, or a moment with its time zone, in UTC."""
    try:
        if len(text) == len("2026-11-21"):
            day = dt.date.fromisoformat(text)
            return _midnight(day + ONE_DAY if whole_day else day, zone)
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is not None and 2000 <= moment.year < 9000:
            return moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        pass
    raise ValidationError(
        f"{param} is a day such as 2026-11-21, or a moment with its time zone such as 2026-11-21T09:30:00Z.",
        param=param,
    )


def _midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    if not 2000 <= day.year < 9000:
        raise ValueError("no ledger has such days")
    return dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)
