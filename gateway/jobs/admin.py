"""The admin pages of jobs: which there are, how each went, and what an operator may do about one."""

from __future__ import annotations

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from billing.money import usd
from gateway.jobs.models import Job, JobEvent, JobStatus
from gateway.jobs.rows import ask_to_cancel, charged, retry
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, ReadOnlyInline, number, once, operator_action, two_lines, utc
from tenants.sealing import SealError

STATE_LABELS = {
    JobStatus.QUEUED: "info",
    JobStatus.IN_PROGRESS: "info",
    JobStatus.CANCELLING: "warning",
    JobStatus.COMPLETED: "success",
    JobStatus.FAILED: "danger",
    JobStatus.CANCELLED: "warning",
    JobStatus.EXPIRED: "danger",
}


class JobActionError(ValueError):
    """What may not be done with a job, with the reason in words for the operator."""


class JobEventInline(ReadOnlyInline):
    """The timeline."""

    model = JobEvent
    fields = ("number", utc("at", "At"), "status_words", "progress", "message")
    readonly_fields = fields
    verbose_name_plural = "timeline"
    ordering = ("number",)

    @display(description="Status")
    def status_words(self, event: JobEvent) -> str:
        return event.get_status_display()


@admin.register(Job)
class JobAdmin(OperatorModelAdmin):
    """Jobs as their workers wrote them down. What a job was asked and what it made is its tenant's alone."""

    list_display = ("created", "tenant_column", "model_column", "show_status", "took", "cost")
    list_select_related = ("tenant", "api_key")
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        ("status", ChoicesDropdownFilter),
        "is_native",
    )
    search_fields = ("id",)
    search_help_text = "An exact job id"
    sortable_by = ()
    show_full_result_count = False
    list_fullwidth = True
    object_actions = ("cancel", "retry")
    inlines = (JobEventInline,)
    empty_hint = 'Calls with "async": true or Prefer: respond-async, and all of /v1/videos, are listed here.'
    fields = (
        "id", "tenant", "api_key", "operation", "endpoint", "requested_model", "model_name", "provider_name",
        "worked_on", "status_words", utc("created_at", "Asked"), utc("started_at", "Begun"),
        utc("ended_at", "Over"), utc("expires_at", "Kept until"), "runs", "upstream_id",
        utc("cancel_requested_at", "Asked to end"), "cancel_upstream", "show_error", "attempts_table", "cost",
        "retry_of", "elsewhere",
    )  # fmt: skip
    readonly_fields = ("worked_on", "status_words", "show_error", "attempts_table", "cost", "elsewhere")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_steer_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Whether the operator may end a job or have it made again: the row itself nobody edits."""
        return bool(request.user.has_perm("gateway.change_job"))

    def render_change_form(self, request: HttpRequest, context: dict[str, object], **kwargs: object) -> HttpResponse:
        obj = kwargs.get("obj")
        if isinstance(obj, Job) and self.has_steer_permission(request):
            context["object_actions"] = self.offered_actions(obj)
        response: HttpResponse = super().render_change_form(request, context, **kwargs)
        return response

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Job], search_term: str
    ) -> tuple[models.QuerySet[Job], bool]:
        return (queryset.filter(pk=search_term.strip()) if search_term else queryset), False

    @display(description="Asked, UTC")
    def created(self, row: Job) -> SafeString:
        return two_lines(f"{row.created_at:%Y-%m-%d %H:%M:%S}", row.pk)

    @display(description="Tenant, key")
    def tenant_column(self, row: Job) -> SafeString:
        return two_lines(row.tenant.name, row.api_key.name)

    @display(description="Asked for, worked on by")
    def model_column(self, row: Job) -> SafeString:
        by = f"{row.model_name} at {row.provider_name}" if row.provider_name else "nobody yet"
        return two_lines(f"{row.requested_model} ({row.operation})", by)

    @display(description="Status", label=STATE_LABELS)
    def show_status(self, row: Job) -> tuple[str, str]:
        share = f", {row.progress} %" if row.progress is not None and not row.is_over else ""
        return row.status, f"{row.get_status_display()}{share}"

    @display(description="Status")
    def status_words(self, row: Job) -> str:
        return str(row.get_status_display())

    @display(description="Worked on")
    def worked_on(self, row: Job) -> str:
        return "by the provider itself, which is asked how far it is" if row.is_native else "by a worker, as a call"

    @display(description="Seconds")
    def took(self, row: Job) -> SafeString | str:
        if row.ended_at is None:
            return "-"
        return number(f"{(row.ended_at - row.created_at).total_seconds():,.1f}")

    @display(description="Cost, USD")
    def cost(self, row: Job) -> SafeString | str:
        if not row.is_over:
            return "not over yet"
        return number(usd(row.cost_nano_usd)) if row.cost_nano_usd is not None else "in the ledger"

    @display(description="Error")
    def show_error(self, row: Job) -> str:
        return f"{row.error['code']}: {row.error['message']}" if row.error else "-"

    @display(description="Attempts")
    def attempts_table(self, row: Job) -> str:
        told = [f"{note['model']} at {note['provider']}: {note['outcome']}" for note in row.notes]
        return "; ".join(told) or "None yet"

    @display(description="More")
    @once
    def elsewhere(self, row: Job) -> SafeString:
        request, usage = (
            reverse(f"admin:{name}_changelist") for name in ("gateway_requestrecord", "billing_usagerecord")
        )
        charges = charged(row)
        return format_html(
            '<a class="link" href="{}?q={}">Its call</a>, <a class="link" href="{}?q={}">its charges</a> ({} USD)',
            request, row.pk, usage, row.pk, usd(charges or 0),
        )  # fmt: skip

    @operator_action(
        label="Cancel",
        done="Cancelled",
        permission="steer",
        question="Its provider is told to stop. What it has cost by then is charged.",
        refusals=(JobActionError,),
        offered=lambda job: not job.is_over,
    )
    def cancel(self, job: Job, *, by: Operator, reason: str) -> None:
        row = ask_to_cancel(job.tenant_id, job.pk)
        if row is None or (row.is_over and row.status != JobStatus.CANCELLED):
            raise JobActionError("The job is over already.")

    @operator_action(
        label="Try again",
        done="Tried again",
        permission="steer",
        question="A new job is made of the same request, and charged like any other.",
        refusals=(JobActionError, SealError),
        offered=lambda job: job.is_over and job.status != JobStatus.COMPLETED and bool(job.request),
    )
    def retry(self, job: Job, *, by: Operator, reason: str) -> None:
        if job.status == JobStatus.COMPLETED or retry(job.pk) is None:
            raise JobActionError("Its request is not kept any more, or the job goes on: it cannot be made again.")
