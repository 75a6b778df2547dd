"""The playground: an operator tries models as a tenant, through the way every call of that tenant's takes.

Whoever may see it is not whoever may spend: that takes `gateway.add_playground`, which viewers do not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from billing.money import usd
from gateway.desk.hints import hints
from gateway.desk.inside import DATA_PLANE, DataPlane, InsideCall, lines_of
from gateway.desk.playground_keys import NAME, NoPlaygroundError, playground_key
from gateway.handler import REQUEST_ID, new_request_id
from gateway.models import RequestRecord
from gateway.request_costs import parts_of
from gateway.request_explained import candidates_of, sentence_of
from gateway.request_records import find_request
from providers.models import Capability
from providers.selectors import SERVING, approved_names, load_catalogue
from tenants.audit import Subject, operator_actor, record
from tenants.models import Tenant, TenantStatus
from tenants.operator_admin import operator_of

SEE, SPEND = "gateway.view_playground", "gateway.add_playground"

PATHS = {
    "chat": "/v1/chat/completions",
    "image": "/v1/images/generations",
    "speech": "/v1/audio/speech",
}
"""What may be tried, and the endpoint it goes to."""

NEEDS = {
    "chat": Capability.CHAT.value,
    "image": Capability.IMAGE_GENERATION.value,
    "speech": Capability.SPEECH.value,
}

TENANTS_LISTED = 1000


class NotPossible(Exception):
    """What was asked of the playground itself is wrong: `field` names where."""

    def __init__(self, message: str, *, field: str, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.field, self.status = message, field, status


View = Callable[[HttpRequest], HttpResponseBase]


def _told(view: View) -> View:
    """Answer what is not possible as JSON that names the field."""

    def answering(request: HttpRequest) -> HttpResponseBase:
        try:
            return view(request)
        except NotPossible as wrong:
            said = {"error": {"message": wrong.message, "param": wrong.field, "code": "playground"}}
            return JsonResponse(said, status=wrong.status)

    return answering


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The page. What it may be used for is asked for by its script."""
    _check(request, SEE)
    tenants = list(Tenant.objects.order_by("name").values("id", "name", "status")[:TENANTS_LISTED])
    chosen = request.GET.get("tenant", "")
    context = {
        **admin.site.each_context(request),
        "title": "Playground",
        "tenants": tenants,
        "chosen": int(chosen) if chosen.isascii() and chosen.isdigit() and len(chosen) < 19 else None,
        "may_spend": request.user.has_perm(SPEND),
        "suspended": TenantStatus.SUSPENDED,
        "key_name": NAME,
        "told": {
            "call": reverse("playground_call"),
            "choices": reverse("playground_choices"),
            "story": reverse("playground_story"),
            "hints": hints(),
            "paths": PATHS,
            "base_url": settings.PUBLIC_URL,
        },
    }
    return TemplateResponse(request, "admin/desk/playground.html", context)


@require_GET
@_told
def choices(request: HttpRequest) -> HttpResponse:
    """What a tenant may ask for: models and groups by what they can do."""
    _check(request, SEE)
    tenant = _tenant(request)
    catalogue, approved = load_catalogue(), approved_names(tenant.pk)
    found = []
    for name in sorted(approved):
        group = catalogue.groups.get(name)
        members = group.members if group else (name,)
        models = [catalogue.models[one] for one in members if one in catalogue.models]
        able = {can for model in models if model.lifecycle in SERVING for can in model.capabilities}
        kinds = [kind for kind, need in NEEDS.items() if need in able]
        if kinds:
            found.append({"name": name, "group": group is not None, "kinds": kinds, "can": sorted(able)})
    return JsonResponse({"models": found, "approvals": reverse("admin:providers_tenantapproval_changelist")})


@require_POST
@_told
def call(request: HttpRequest) -> HttpResponseBase:
    """Make a call as the tenant and pass its answer on as it comes; see `gateway.desk.inside.lines_of`."""
    _check(request, SPEND)
    data_plane: DataPlane | None = getattr(request, "scope", {}).get(DATA_PLANE)
    if data_plane is None:
        raise NotPossible("This server makes no calls: run Bursar under its ASGI server.", field="server", status=503)
    tenant, kind = _tenant(request), request.GET.get("kind", "")
    if kind not in PATHS:
        raise NotPossible(f"kind is one of {', '.join(PATHS)}.", field="kind")
    body, asked = _body(request)
    operator = operator_of(request)
    try:
        key = playground_key(tenant, by=operator)
    except NoPlaygroundError as error:
        raise NotPossible(str(error), field="tenant", status=403) from error
    request_id = new_request_id()
    record(
        "playground.called",
        by=operator_actor(operator, request),
        about=Subject(type="request", id=request_id, name=str(asked.get("model", ""))[:200], tenant_id=tenant.pk),
        details={"kind": kind, "model": str(asked.get("model", ""))[:200]},
    )
    made = InsideCall(
        path=PATHS[kind],
        body=body,
        digest=bytes(key.digest),
        headers={"x-request-id": request_id, "x-user-id": f"operator-{operator.pk}", "x-agent-id": "playground"},
        client=getattr(request, "scope", {}).get("client"),
    )
    answer = StreamingHttpResponse(lines_of(data_plane, made), content_type="application/x-ndjson")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


@require_GET
@_told
def story(request: HttpRequest) -> HttpResponse:
    """Where a request went and what it cost, once that is written down."""
    _check(request, SEE)
    tenant, request_id = _tenant(request), request.GET.get("request", "")
    if not REQUEST_ID.fullmatch(request_id):
        raise NotPossible("request is a request's id.", field="request")
    found = find_request(tenant.pk, request_id)
    record_ = found.record if found else None
    settled = found is not None and all(told.attempt and told.attempt.state != "open" for told in found.attempts)
    if found is None or record_ is None or not settled:
        return JsonResponse({"ready": False})
    return JsonResponse({"ready": True, **_summary(record_, found)})


def _summary(row: RequestRecord, found: Any) -> dict[str, Any]:
    charges = [told.charge for told in found.attempts if told.charge]
    return {
        "url": reverse("admin:gateway_requestrecord_change", args=[row.pk]),
        "sentence": sentence_of(row, found),
        "cost": parts_of(charges).as_text(),
        "cost_usd": usd(found.cost_nano_usd),
        "tokens": {
            "in": sum(charge.input_tokens for charge in charges),
            "out": sum(charge.output_tokens for charge in charges),
        },
        "candidates": [one._asdict() for one in candidates_of(row)],
    }


def _check(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _tenant(request: HttpRequest) -> Tenant:
    given = request.GET.get("tenant", "")
    tenant = None
    if given.isascii() and given.isdigit() and len(given) < 19:
        tenant = Tenant.objects.filter(pk=int(given)).first()
    if tenant is None:
        raise NotPossible("There is no such tenant.", field="tenant", status=404)
    return tenant


def _body(request: HttpRequest) -> tuple[bytes, dict[str, Any]]:
    """What is sent on as it is, and what it says. All else is the endpoint's to judge."""
    try:
        body = request.body
        asked = orjson.loads(body)
    except RequestDataTooBig as error:
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024
        raise NotPossible(f"The playground sends at most {most:,} KiB.", field="body", status=413) from error
    except orjson.JSONDecodeError as error:
        raise NotPossible("The body is not JSON.", field="body") from error
    if not isinstance(asked, dict):
        raise NotPossible("The body is a JSON object.", field="body")
    return body, asked
