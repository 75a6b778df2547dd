"""The admin's sidebar, styles and icon."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from tenants.scoping import MEMBER_PAGES, is_member

VOICE_PLAYGROUND = "voice_playground"
PAGES = frozenset({VOICE_PLAYGROUND})
"""Pages that are neither the admin's own nor the desk's."""

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
        ("Jobs", "pending_actions", "gateway_job"),
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
    home = {"title": "Home", "icon": "home", "link": reverse("admin:index")}
    if is_member(request.user):
        pages = [item for _, items in SIDEBAR for item in items if not MEMBER_PAGES.keys().isdisjoint(_names(item[2]))]
        links = [{"title": name, "icon": icon, "link": page_link(page)} for name, icon, page in pages]
        return [{"items": [home, *links]}]
    first = {
        "items": [
            home,
            {"title": "Playground", "icon": "science", "link": reverse("playground")},
            {"title": "Provider health", "icon": "monitor_heart", "link": reverse("provider_board")},
        ]
    }
    groups = [
        {
            "title": title,
            "separator": True,
            "items": [{"title": name, "icon": icon, "link": page_link(page)} for name, icon, page in items],
        }
        for title, items in SIDEBAR
    ]
    return [first, *groups]


def _names(page: str) -> tuple[str, str]:
    """What the address of an entry may be called."""
    return page, f"{page}_changelist"


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
