"""The admin's home page and its sidebar."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone

from billing.models import BooksCheck, Price, UsageRecord
from gateway.operator_usage import usage_panel
from providers.models import ApprovalState, Deployment, Lifecycle, Model, TenantApproval
from providers.selectors import SERVING
from tenants.models import ApiKey, Tenant, TenantStatus
from tenants.scoping import MEMBER_PAGES, is_member

WAITING_SHOWN = 10
VOICE_PLAYGROUND = "voice_playground"
PAGES = frozenset({VOICE_PLAYGROUND})
"""What is no list of a model's rows."""

SIDEBAR = (
    ("Tenants", (
        ("Tenants", "apartment", "tenants_tenant"),
        ("Projects", "folder", "tenants_project"),
        ("API keys", "key", "tenants_apikey"),
        ("Rate limits", "speed", "tenants_ratelimit"),
        ("Members", "group", "tenants_membership"),
        ("Approvals", "fact_check", "providers_tenantapproval"),
        ("Hooks", "policy", "gateway_hookbinding"),
    )),
    ("Models", (
        ("Models", "model_training", "providers_model"),
        ("Model groups", "stacks", "providers_modelgroup"),
        ("Agent types", "smart_toy", "providers_agenttype"),
        ("Schema types", "data_object", "gateway_schematype"),
        ("Deployments", "lan", "providers_deployment"),
        ("Cache", "bolt", "gateway_cacherule"),
        ("Prices", "sell", "billing_price"),
        ("Price proposals", "price_check", "billing_priceproposal"),
    )),
    ("Providers", (
        ("Providers", "dns", "providers_provider"),
        ("Credentials", "lock", "providers_credential"),
        ("Listed models", "playlist_add_check", "providers_offeredmodel"),
    )),
    ("Budgets", (
        ("Budgets", "savings", "billing_budget"),
        ("Budget windows", "history", "billing_budgetwindow"),
        ("Budget alerts", "notifications", "billing_budgetalert"),
    )),
    ("Statements", (
        ("Statements", "receipt_long", "billing_statement"),
        ("Markups", "percent", "billing_markup"),
        ("Schedules", "event_repeat", "billing_statementschedule"),
        ("Reconciliation", "balance", "billing_reconciliationrun"),
    )),
    ("Usage", (
        ("Usage explorer", "query_stats", "desk_usage"),
        ("Requests", "alt_route", "gateway_requestrecord"),
        ("Voice sessions", "graphic_eq", "gateway_realtimesession"),
        ("Voice playground", "mic", VOICE_PLAYGROUND),
        ("Usage", "monitoring", "billing_usagerecord"),
        ("Adjustments", "published_with_changes", "billing_adjustment"),
        ("Attempts", "call_made", "billing_attempt"),
    )),
    ("Notifications", (
        ("Webhooks", "webhook", "tenants_webhookendpoint"),
        ("Notifications", "campaign", "tenants_notification"),
        ("Deliveries", "outbox", "tenants_delivery"),
    )),
    ("Platform", (
        ("Audit log", "policy", "tenants_auditevent"),
        ("Audit chains", "link", "tenants_auditchain"),
        ("Files", "draft", "gateway_mediaobject"),
        ("File storage", "hard_drive", "gateway_tenantstorage"),
        ("Schedule", "schedule", "django_celery_beat_periodictask"),
        ("Operators", "badge", "tenants_operator"),
    )),
)  # fmt: skip


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar's groups, as django-unfold wants them. No query: it is drawn on every page."""
    home = {"items": [{"title": "Home", "icon": "home", "link": reverse("admin:index")}]}
    if is_member(request.user):
        pages = [item for _, items in SIDEBAR for item in items if f"{item[2]}_changelist" in MEMBER_PAGES]
        links = [
            {"title": name, "icon": icon, "link": reverse(f"admin:{page}_changelist")} for name, icon, page in pages
        ]
        return [{"items": [*home["items"], *links]}]
    groups = [
        {
            "title": title,
            "separator": True,
            "items": [{"title": name, "icon": icon, "link": page_link(page)} for name, icon, page in items],
        }
        for title, items in SIDEBAR
    ]
    return [home, *groups]


def page_link(page: str) -> str:
    """Where an entry of the sidebar leads: a page of the desk, or a model's list."""
    if page in PAGES:
        return reverse(page)
    return reverse(f"admin:{page}" if page.startswith("desk_") else f"admin:{page}_changelist")


def stylesheet(request: HttpRequest) -> str:
    """Where the admin's own styles are."""
    return static("bursar/admin.css")


def icon(request: HttpRequest) -> str:
    """Where the browser tab's icon is."""
    return static("bursar/icon.svg")


def fill_home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the home page shows: a fixed number of queries, and sums that are read from buckets."""
    now = timezone.now()
    counts = _count(now)
    context.update(
        title="Home",
        tiles=_tiles(counts),
        waiting=_waiting(),
        requested_count=counts["requested"],
        may_decide=request.user.has_perm("providers.change_tenantapproval"),
        usage=usage_panel(now),
        books=BooksCheck.objects.first(),
        now=now,
        steps=_steps_left(counts),
        curl=_curl_line(),
    )
    return context


def _count(now: dt.datetime) -> dict[str, int]:
    """How many of each there are, by what one wants to know of them. One query for each table."""
    usable = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    counted = (
        Tenant.objects.aggregate(tenants=Count("pk"), suspended=Count("pk", filter=Q(status=TenantStatus.SUSPENDED))),
        Model.objects.aggregate(
            serving=Count("pk", filter=Q(lifecycle__in=SERVING)),
            proposed=Count("pk", filter=Q(lifecycle=Lifecycle.PROPOSED)),
        ),
        ApiKey.objects.aggregate(keys=Count("pk"), usable=Count("pk", filter=usable)),
        TenantApproval.objects.aggregate(
            requested=Count("pk", filter=Q(state=ApprovalState.REQUESTED)),
            approved=Count("pk", filter=Q(state=ApprovalState.APPROVED)),
        ),
    )
    return {name: count for counts in counted for name, count in counts.items()}


def _tiles(counts: dict[str, int]) -> list[tuple[str, str, str, str]]:
    """Title, figure, remark and page of each count."""
    shown = (
        ("Tenants", counts["tenants"], f"{counts['suspended']} suspended", "tenants_tenant"),
        ("Models that serve", counts["serving"], f"{counts['proposed']} proposed", "providers_model"),
        (
            "Keys that work",
            counts["usable"],
            f"{counts['keys'] - counts['usable']} revoked or expired",
            "tenants_apikey",
        ),
    )
    return [
        (title, f"{figure:,}", remark, reverse(f"admin:{page}_changelist")) for title, figure, remark, page in shown
    ]


def _waiting() -> dict[str, Any]:
    """What is for an operator to decide: tenants' requests, proposed models, and models whose calls nobody pays for."""
    requests = TenantApproval.objects.filter(state=ApprovalState.REQUESTED).select_related("tenant", "model", "group")
    unpriced = Model.objects.filter(lifecycle__in=SERVING).exclude(pk__in=Price.objects.values("model_id"))
    return {
        "approvals": list(requests.order_by("requested_at")[:WAITING_SHOWN]),
        "models": list(Model.objects.filter(lifecycle=Lifecycle.PROPOSED).order_by("created_at")[:WAITING_SHOWN]),
        "unpriced": list(unpriced[:WAITING_SHOWN]),
    }


def _steps_left(counts: dict[str, int]) -> list[tuple[str, str, bool]]:
    """A new platform's first steps: what to do, on which page, and whether it is done. None once all are."""
    steps = (
        ("Add a model and its deployment", "providers_model_add", Deployment.objects.filter(enabled=True).exists()),
        ("Approve it", "providers_model_changelist", counts["serving"] > 0),
        ("Create a tenant", "tenants_tenant_add", counts["tenants"] > 0),
        ("Approve the model for the tenant", "providers_tenantapproval_add", counts["approved"] > 0),
        ("Create an API key", "tenants_apikey_add", counts["usable"] > 0),
        ("Call the model with curl", "billing_usagerecord_changelist", UsageRecord.objects.exists()),
    )
    if all(is_done for _, _, is_done in steps):
        return []
    return [(title, reverse(f"admin:{page}"), is_done) for title, page, is_done in steps]


def _curl_line() -> str:
    """A first call; the model is the first one that serves."""
    model = Model.objects.filter(lifecycle__in=SERVING).values_list("name", flat=True).first() or "MODEL"
    return (
        f"curl {settings.PUBLIC_URL}/v1/chat/completions -H 'Authorization: Bearer YOUR_KEY' "
        "-H 'Content-Type: application/json' "
        f"""-d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
    )
