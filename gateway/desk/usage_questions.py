"""The usage explorer's address: what it asks for, whether that can be answered, and of which tenants."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.http import HttpRequest, QueryDict
from django.utils import timezone

from billing.analytics.queries import BY_USER, UTC, Question
from gateway.desk.usage_measures import MEASURES
from tenants.models import ApiKey, Project, Role, Tenant
from tenants.operator_admin import operator_of

GROUPS = {
    "tenant": "Tenant", "project": "Project", "user": "User", "key": "Key", "model": "Model", "provider": "Provider",
    "agent_type": "Agent type",
}  # fmt: skip
"""What usage may be grouped by: the dimensions of `billing.analytics.queries`, and their words."""

ONE_DAY = dt.timedelta(days=1)
DEFAULT_DAYS = 7
MOST_DAYS = 90
MOST_DAYS_BY_HOUR = 14
"""Of one tenant; of all of them `BY_HOUR_UP_TO_DAYS`."""
BY_HOUR_UP_TO_DAYS = 3
SEES_ALL = frozenset({Role.VIEWER, Role.OPERATOR, Role.OWNER})
"""The platform's own people. Anybody else sees the tenants that the list of tenants shows them."""


def tenants_seen_by(request: HttpRequest) -> list[int] | None:
    """The tenants whose usage somebody may see; None for all of them."""
    if operator_of(request).role in SEES_ALL:
        return None
    rows = admin.site.get_model_admin(Tenant).get_queryset(request)
    return list(rows.values_list("pk", flat=True))


class UsageForm(forms.Form):
    """The address's members. `question` is what they ask for, once they are valid."""

    first = forms.DateField(required=False, label="From", input_formats=["%Y-%m-%d"])
    last = forms.DateField(required=False, label="To, included", input_formats=["%Y-%m-%d"])
    group = forms.ChoiceField(required=False, label="Group by", choices=[*GROUPS.items()])
    measure = forms.ChoiceField(
        required=False, label="Measure", choices=[(name, measure.title) for name, measure in MEASURES.items()]
    )
    per = forms.ChoiceField(required=False, label="Bars", choices=[("", "As fits"), ("hour", "Hours"), ("day", "Days")])
    tenant = forms.CharField(required=False, max_length=100)
    project = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    key = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    model = forms.CharField(required=False, max_length=200)
    provider = forms.CharField(required=False, max_length=100)
    agent_type = forms.CharField(required=False, max_length=256, label="Agent type")
    user = forms.CharField(required=False, max_length=256)

    tenant_row: Tenant | None = None
    owner_id: int | None = None
    """Of the project or key asked for: its tenant, by which its sums are found."""

    def __init__(self, data: QueryDict, *, seen: list[int] | None) -> None:
        super().__init__(data)
        self.seen = seen

    def clean_tenant(self) -> str:
        name = str(self.cleaned_data["tenant"])
        if name:
            rows = Tenant.objects.all() if self.seen is None else Tenant.objects.filter(pk__in=self.seen)
            self.tenant_row = rows.filter(name=name).first()
            if self.tenant_row is None:
                raise forms.ValidationError(f"No tenant is called {name!r}.")
        return name

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if self.errors:
            return found
        found["group"] = found["group"] or "tenant"
        found["measure"] = found["measure"] or "requests"
        for check in (self._clean_users, self._clean_owned, self._clean_range):
            if not self.errors:  # a refused member is not in `found` any more
                check(found)
        return found

    def _clean_users(self, found: dict[str, Any]) -> None:
        if found["group"] != "user" and not found["user"]:
            return
        if self.tenant_row is None:
            self.add_error("tenant", "Choose a tenant: users are a tenant's own.")
        for name in ("project", "key", "model", "provider", "agent_type"):
            if found[name]:
                self.add_error(name, "Users are added up by tenant and day alone: leave this empty.")
        if found["per"] == "hour":
            self.add_error("per", "Users are added up by the day.")
        if found["group"] not in BY_USER:
            self.add_error("group", "Users are added up by tenant and day alone: group by user or tenant.")

    def _clean_owned(self, found: dict[str, Any]) -> None:
        owned: tuple[tuple[str, Any], ...] = (("project", Project), ("key", ApiKey))
        for name, model in owned:
            if not found[name]:
                continue
            rows = model.objects.filter(pk=found[name])
            if self.tenant_row is not None:
                rows = rows.filter(tenant=self.tenant_row)
            elif self.seen is not None:
                rows = rows.filter(tenant__in=self.seen)
            self.owner_id = rows.values_list("tenant_id", flat=True).first()
            if self.owner_id is None:
                self.add_error(name, f"There is no such {name} here.")

    def _clean_range(self, found: dict[str, Any]) -> None:
        for name in ("first", "last"):
            if found[name] and not 2000 < found[name].year < 9000:
                self.add_error(name, "There is no usage of that year.")
                return
        today = timezone.now().astimezone(self.zone(found)).date()
        last = found["last"] or (found["first"] + ONE_DAY * (DEFAULT_DAYS - 1) if found["first"] else today)
        last = last if found["last"] else min(last, today)
        first = found["first"] or last - ONE_DAY * (DEFAULT_DAYS - 1)
        days = (last - first) // ONE_DAY + 1
        by_hour = days <= BY_HOUR_UP_TO_DAYS and found["group"] != "user" and not found["user"]
        step = found["per"] or ("hour" if by_hour else "day")
        found.update(first=first, last=last, step=step)
        if days < 1:
            self.add_error("last", "This is before the first day.")
        elif days > MOST_DAYS:
            self.add_error("first", f"Ask for {MOST_DAYS} days at most.")
        elif step == "hour":
            most = BY_HOUR_UP_TO_DAYS if self.tenant_row is None else MOST_DAYS_BY_HOUR
            if days > most:
                self.add_error(
                    "per", f"Ask by the hour for {BY_HOUR_UP_TO_DAYS} days, or {MOST_DAYS_BY_HOUR} of a tenant."
                )

    def zone(self, found: dict[str, Any]) -> ZoneInfo:
        """In whose days the answer is: the chosen tenant's. Users' sums are by the day of UTC."""
        if self.tenant_row is None or found["group"] == "user" or found["user"]:
            return UTC
        return ZoneInfo(self.tenant_row.timezone)

    def question(self) -> Question:
        """What is asked for. Only of a valid form."""
        found = self.cleaned_data
        zone = self.zone(found)
        narrow: dict[str, list[Any]] = {} if self.seen is None else {"tenant": self.seen}
        if self.tenant_row is not None:
            narrow["tenant"] = [self.tenant_row.pk]
        elif self.owner_id is not None:
            narrow["tenant"] = [self.owner_id]
        for name in ("project", "key", "model", "provider", "agent_type", "user"):
            if found[name]:
                narrow[name] = [found[name]]
        return Question(
            start=_midnight(found["first"], zone),
            end=_midnight(found["last"] + dt.timedelta(days=1), zone),
            group_by=found["group"],
            step=found["step"],
            zone=zone,
            narrow=narrow,
        )

    def address(self, **changes: object) -> str:
        """The same question's address, after the `?`, with some members changed; None leaves one out."""
        members = {name: self.data.get(name, "") for name in self.fields}
        members.update({name: "" if value is None else str(value) for name, value in changes.items()})
        query = QueryDict(mutable=True)
        query.update({name: value for name, value in members.items() if value})
        return query.urlencode()


def _midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)
