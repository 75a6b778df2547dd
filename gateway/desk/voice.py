"""The playground's voice page: an operator talks to a model as one of a tenant's keys, with its budgets and its hooks.

The browser is given no key but a client secret that is made for the one session, and talks to `/v1/realtime` as every
client does. What it costs is read from the ledger.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from gateway.realtime.credentials import mint_secret
from gateway.realtime.models import RealtimeSession
from gateway.realtime.rows import describe
from providers.models import Capability, Model
from providers.selectors import SERVING, approved_names
from tenants.audit import Subject, operator_actor, record
from tenants.models import ApiKey, Scope, Tenant, TenantStatus
from tenants.operator_admin import operator_of

SECRET_SECONDS = 60
"""How long the browser may take to open the session; the session itself lasts as long as any."""

LONGEST_INSTRUCTIONS = 4000
TENANTS_SHOWN = 500
MAY_TALK = "gateway.add_playground"
"""Not every operator who may look may spend a tenant's money; viewers may not."""

MAY_LOOK = "gateway.view_realtimesession"


class KeyField(forms.ModelChoiceField):
    """Keys by their names: whose they are is chosen before."""

    def label_from_instance(self, obj: ApiKey) -> str:
        return obj.name


class VoiceForm(forms.Form):
    """What a session begins with. The choices are one tenant's."""

    key = KeyField(ApiKey.objects.none(), label="As the key", empty_label=None)
    model = forms.ChoiceField(label="Model")
    instructions = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}), required=False, max_length=LONGEST_INSTRUCTIONS
    )

    def __init__(self, tenant: Tenant, data: Any = None) -> None:
        super().__init__(data)
        key, model = self.fields["key"], self.fields["model"]
        assert isinstance(key, KeyField) and isinstance(model, forms.ChoiceField)
        key.queryset = usable_keys(tenant)
        model.choices = [(name, name) for name in voice_models(tenant)]


def urls() -> list[URLPattern]:
    """Where the page is, and what it asks."""
    views = (
        ("", voice_page, "voice_playground"),
        ("secrets/", make_secret, "voice_playground_secrets"),
        ("sessions/<str:session_id>/", show_session, "voice_playground_session"),
    )
    return [path(f"admin/playground/voice/{end}", admin.site.admin_view(view), name=name) for end, view, name in views]


@require_GET
def voice_page(request: HttpRequest) -> HttpResponse:
    """The page. Without a tenant it asks for one."""
    tenants = Tenant.objects.filter(status=TenantStatus.ACTIVE).order_by("name")
    tenant = _tenant(request.GET.get("tenant"))
    context = {
        **admin.site.each_context(request),
        "title": "Voice playground",
        "tenants": tenants[:TENANTS_SHOWN],
        "tenant": tenant,
        "form": VoiceForm(tenant) if tenant is not None else None,
        "may_talk": operator_of(request).has_perm(MAY_TALK),
    }
    return TemplateResponse(request, "admin/desk/voice.html", context)


@require_POST
def make_secret(request: HttpRequest) -> HttpResponse:
    """A client secret for one session as one of a tenant's keys; 400 with what is wrong by field."""
    operator = operator_of(request)
    if not operator.has_perm(MAY_TALK):
        raise PermissionDenied
    tenant = _tenant(request.POST.get("tenant"))
    if tenant is None:
        return JsonResponse({"errors": {"tenant": ["Choose an active tenant."]}}, status=400)
    form = VoiceForm(tenant, request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    key, model = form.cleaned_data["key"], form.cleaned_data["model"]
    session = {
        "type": "realtime",
        "model": model,
        "instructions": form.cleaned_data["instructions"],
        "audio": {"input": {"turn_detection": {"type": "server_vad"}}},
    }
    with transaction.atomic():
        about = Subject(type="api_key", id=str(key.pk), name=key.name, tenant_id=tenant.pk)
        record("voice_playground.opened", by=operator_actor(operator, request), about=about, details={"model": model})
        value, expires_at = mint_secret(
            bytes(key.digest),
            pepper=settings.API_KEY_PEPPER,
            user=operator.username,
            session=session,
            seconds=SECRET_SECONDS,
        )
    answer = JsonResponse({"value": value, "model": model, "expires_at": int(expires_at.timestamp())})
    answer["Cache-Control"] = "no-store"
    return answer


@require_GET
def show_session(request: HttpRequest, session_id: str) -> HttpResponse:
    """What a session has come to by now, from the ledger."""
    if not operator_of(request).has_perm(MAY_LOOK):
        raise PermissionDenied
    row = RealtimeSession.objects.filter(pk=session_id).first()
    if row is None:
        raise Http404
    return JsonResponse(describe(row))


def usable_keys(tenant: Tenant) -> QuerySet[ApiKey]:
    """The keys that may open voice sessions."""
    unexpired = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    may_chat = Q(scopes=[]) | Q(scopes__contains=[Scope.CHAT])
    return ApiKey.objects.filter(unexpired, may_chat, tenant=tenant, revoked_at=None).order_by("name")


def voice_models(tenant: Tenant) -> list[str]:
    """The voice models that the tenant has been approved, by name."""
    serving = Model.objects.filter(
        name__in=approved_names(tenant.pk), lifecycle__in=SERVING, capabilities__contains=[Capability.REALTIME]
    )
    return list(serving.order_by("name").values_list("name", flat=True))


def _tenant(given: str | None) -> Tenant | None:
    if given is None or not given.isascii() or not given.isdigit() or len(given) > 18:
        return None
    return Tenant.objects.filter(pk=int(given), status=TenantStatus.ACTIVE).first()
