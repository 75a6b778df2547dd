"""What a new platform still lacks before it can be called."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from billing.models import UsageDay
from gateway.desk.kept import kept
from providers.models import ApprovalState, Deployment, Model, TenantApproval
from providers.selectors import SERVING
from tenants.models import ApiKey, Tenant

DONE_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, with the page where it is done and a key for its tick."""

    key: str
    title: str
    says: str
    link: str
    is_done: bool


def first_steps() -> list[Step]:
    """The four steps of a platform that was never called; none once there is usage."""
    if kept("has_usage", _has_usage, seconds=DONE_SECONDS):
        return []
    usable = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
    deployed = Deployment.objects.filter(enabled=True, provider__enabled=True).exists()
    serving = Model.objects.filter(lifecycle__in=SERVING).exists()
    opened = TenantApproval.objects.filter(state=ApprovalState.APPROVED).exists()
    return [
        Step(
            key="provider",
            title="Connect a provider",
            says="its address and credential, and a model that is deployed there",
            link=reverse("admin:providers_provider_changelist"),
            is_done=deployed,
        ),
        Step(
            key="model",
            title="Approve a model",
            says="with a price, so that its calls cost what they cost",
            link=reverse("admin:providers_model_changelist"),
            is_done=serving,
        ),
        Step(
            key="tenant",
            title="Open it to a tenant",
            says="add the tenant, then approve the model for it",
            link=_tenant_page(),
            is_done=opened,
        ),
        Step(
            key="key",
            title="Make an API key",
            says="its text is shown once",
            link=reverse("admin:tenants_apikey_add"),
            is_done=ApiKey.objects.filter(usable).exists(),
        ),
    ]


def _tenant_page() -> str:
    """Where a tenant is added, or opened to a model: on the page of the only one there is."""
    tenants = Tenant.objects.values_list("pk", flat=True)[:2]
    if not tenants:
        return reverse("admin:tenants_tenant_add")
    if len(tenants) == 1:
        return reverse("admin:tenants_tenant_change", args=[tenants[0]])
    return reverse("admin:tenants_tenant_changelist")


def _has_usage() -> bool | None:
    """None for no, which is not remembered."""
    return UsageDay.objects.exists() or None


def curl_line() -> str:
    """A first call; the model is the first one that serves."""
    model = Model.objects.filter(lifecycle__in=SERVING).values_list("name", flat=True).first() or "MODEL"
    return (
        f"curl {settings.PUBLIC_URL}/v1/chat/completions -H 'Authorization: Bearer YOUR_KEY' "
        "-H 'Content-Type: application/json' "
        f"""-d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
    )
