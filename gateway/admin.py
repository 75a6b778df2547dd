"""The admin page of the schedule: when each task runs, and whether."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import admin
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpRequest
from django_celery_beat.admin import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from gateway.audit.chain_pages import AuditChainAdmin
from gateway.audit.pages import AuditEventAdmin
from gateway.caching.admin import CacheRuleAdmin
from gateway.desk.model_lifecycle import ModelDeskAdmin
from gateway.desk.tenants import TenantDeskAdmin
from gateway.hooks.admin import HookBindingAdmin
from gateway.jobs.admin import JobAdmin
from gateway.media.admin import MediaObjectAdmin, TenantStorageAdmin
from gateway.realtime.admin import RealtimeSessionAdmin
from gateway.request_admin import RequestAdmin
from gateway.schedule import set_timing
from gateway.schemas.admin import SchemaTypeAdmin
from tenants.operator_admin import OperatorModelAdmin, utc

__all__ = [
    "AuditChainAdmin", "AuditEventAdmin", "CacheRuleAdmin", "HookBindingAdmin", "JobAdmin", "MediaObjectAdmin",
    "ModelDeskAdmin", "RealtimeSessionAdmin", "RequestAdmin", "ScheduleAdmin", "SchemaTypeAdmin", "TenantDeskAdmin",
    "TenantStorageAdmin",
]  # fmt: skip

# django-celery-beat registers its own pages, which would let anybody who may add run any task by any rhythm.
for theirs in (PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule):
    admin.site.unregister(theirs)

A_DAY_SECONDS = 24 * 3600
STARTED = utc("last_run_at", "Last started")


class ScheduleForm(forms.ModelForm):
    """When a task runs, in one of two ways."""

    every_seconds = forms.IntegerField(
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
        validators=[MinValueValidator(1), MaxValueValidator(A_DAY_SECONDS)],
        help_text="From the end of the last time it was due.",
    )
    daily_at = forms.TimeField(
        required=False, input_formats=["%H:%M"], widget=UnfoldAdminTextInputWidget, help_text="UTC, such as 03:10."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        task = self.instance
        if task.interval is not None:
            self.initial["every_seconds"] = int(task.interval.schedule.run_every.total_seconds())
        if task.crontab is not None:
            self.initial["daily_at"] = f"{int(task.crontab.hour):02}:{int(task.crontab.minute):02}"

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] | None = super().clean()
        if not self.errors and bool(self.cleaned_data["every_seconds"]) == bool(self._daily_at()):
            raise forms.ValidationError("Give one of the two: every so many seconds, or each day at a time.")
        return cleaned

    def timing(self) -> int | str:
        """What was asked for, as `gateway.schedule.SCHEDULE` has it."""
        seconds: int | None = self.cleaned_data["every_seconds"]
        return seconds or self._daily_at()

    def _daily_at(self) -> str:
        time: dt.time | None = self.cleaned_data["daily_at"]
        return "" if time is None else f"{time:%H:%M}"


@admin.register(PeriodicTask)
class ScheduleAdmin(OperatorModelAdmin):
    """The work that runs by itself. What there is to run is decided in code (`gateway/schedule.py`)."""

    form = ScheduleForm
    list_display = ("name", "show_timing", "enabled", STARTED)
    list_select_related = ("interval", "crontab")
    list_filter = ("enabled",)
    search_fields = ("name",)
    ordering = ("name",)
    fields = ("name", "enabled", "every_seconds", "daily_at", STARTED)
    readonly_fields = ("name", STARTED)
    empty_hint = "`manage.py migrate` fills this list."

    @display(description="Runs")
    def show_timing(self, task: PeriodicTask) -> str:
        if task.interval is not None:
            return f"every {int(task.interval.schedule.run_every.total_seconds())} s"
        return f"daily at {int(task.crontab.hour):02}:{int(task.crontab.minute):02} UTC" if task.crontab else "-"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: ScheduleForm, change: bool) -> None:
        set_timing(obj, form.timing())
        obj.save()
