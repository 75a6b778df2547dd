"""The providers' page: how each is doing, and the four things an operator does about a deployment.

Each says in numbers what it will do before it does it, takes a reason, and leaves an audit event.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from gateway.desk.provider_state import NEWEST, DeploymentState, State, read_state
from gateway.health.board import KEY, SCRIPT
from providers.breakers import TIMEOUT_SECONDS
from providers.draining import DrainError, drain, resume
from providers.models import Deployment, TenantApproval
from tenants.audit import operator_actor, record, subject_of
from tenants.operator_admin import operator_of

CHANGE = "providers.change_deployment"
LONGEST_MINUTES = 7 * 24 * 60
FOR_HOW_LONG = [("10", "10 minutes"), ("60", "1 hour"), ("480", "8 hours"), ("1440", "a day"), ("10080", "a week")]


class ActionForm(forms.Form):
    """Why, and for how long."""

    minutes = forms.TypedChoiceField(
        label="For",
        choices=[*FOR_HOW_LONG, ("", "until it is resumed")],
        coerce=int,
        empty_value=None,
        required=False,
        widget=UnfoldAdminSelectWidget,
    )
    reason = forms.CharField(
        label="Reason (kept in the audit log)", max_length=500, widget=UnfoldAdminTextareaWidget({"rows": 2})
    )


class RedisAway(Exception):
    """The breakers cannot be told anything now."""


Done = tuple[dict[str, Any], dict[str, Any]]
"""Before and after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A button: its words, what it does, when it makes sense, and what to say before."""

    label: str
    done: str
    does: Callable[..., Done]
    """Called with the deployment, and `minutes` and `reason` by name."""
    offered: Callable[[DeploymentState], bool]
    takes_time: bool = False


def _drain(deployment: Deployment, *, minutes: int | None, reason: str) -> Done:
    until = timezone.now() + dt.timedelta(minutes=minutes) if minutes else None
    drain(deployment, until=until, reason=reason)
    return {"drained": False}, {"drained": True, "until": until.isoformat() if until else None}


def _resume(deployment: Deployment, *, minutes: int | None, reason: str) -> Done:
    resume(deployment)
    return {"drained": True}, {"drained": False}


def _open(deployment: Deployment, *, minutes: int | None, reason: str) -> Done:
    minutes = minutes or int(FOR_HOW_LONG[0][0])
    _tell("force", deployment.pk, minutes * 60_000)
    return {"breaker": "as calls had it"}, {"breaker": "open", "minutes": minutes}


def _trust(deployment: Deployment, *, minutes: int | None, reason: str) -> Done:
    _tell("trust", deployment.pk)
    return {"breaker": "as calls had it"}, {"breaker": "closed", "cooldown": "over"}


def _tell(*arguments: object) -> None:
    client = redis.Redis.from_url(
        settings.REDIS_CONNECTION, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
    try:
        with client:
            client.eval(SCRIPT, 1, KEY, *(str(argument) for argument in arguments))
    except (redis.RedisError, OSError) as error:
        raise RedisAway("Redis does not answer, so the breakers cannot be told: nothing was changed.") from error


ACTIONS: dict[str, Action] = {
    "drain": Action(
        label="Drain", done="drained", does=_drain, takes_time=True,
        offered=lambda one: one.state not in ("drained", "off"),
    ),
    "resume": Action(label="Resume", done="resumed", does=_resume, offered=lambda one: one.state == "drained"),
    "open": Action(
        label="Open breaker", done="breaker_opened", does=_open, takes_time=True,
        offered=lambda one: one.state in ("asked", "cooling", "half-open"),
    ),
    "trust": Action(
        label="Trust again", done="trusted", does=_trust,
        offered=lambda one: one.state in ("open", "half-open", "cooling"),
    ),
}  # fmt: skip


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """How each provider is doing."""
    if not request.user.has_perm("providers.view_provider"):
        raise PermissionDenied
    state = read_state()
    may_change = request.user.has_perm(CHANGE)
    shown = [
        (one, [(deployment, _buttons(deployment) if may_change else []) for deployment in one.deployments])
        for one in state.providers
    ]
    context = {
        **admin.site.each_context(request),
        "title": "Provider health",
        "state": state,
        "providers": shown,
        "may_test": request.user.has_perm("providers.change_credential"),
        "newest": NEWEST,
    }
    return TemplateResponse(request, "admin/desk/providers.html", context)


def _buttons(one: DeploymentState) -> list[tuple[str, str]]:
    return [
        (action.label, reverse("provider_board_action", args=[one.row.pk, name]))
        for name, action in ACTIONS.items()
        if action.offered(one)
    ]


@require_POST
def act(request: HttpRequest, *, deployment_id: int, action: str) -> HttpResponse:
    """Say what it would do, and with `confirmed` do it."""
    if not request.user.has_perm(CHANGE):
        raise PermissionDenied
    chosen = ACTIONS.get(action)
    deployment = Deployment.objects.select_related("model", "provider").filter(pk=deployment_id).first()
    if chosen is None or deployment is None:
        raise Http404
    form = ActionForm(request.POST if "confirmed" in request.POST else None, initial={"minutes": "60"})
    if not chosen.takes_time:
        del form.fields["minutes"]
    if form.is_bound and form.is_valid():
        _do(request, deployment, action=chosen, form=form)
        return HttpResponseRedirect(reverse("provider_board"))
    context = {
        **admin.site.each_context(request),
        "title": f"{chosen.label}?",
        "action": chosen,
        "deployment": deployment,
        "consequences": consequences(deployment, action, state=read_state()),
        "form": form,
    }
    return TemplateResponse(request, "admin/desk/provider_action.html", context)


def _do(request: HttpRequest, deployment: Deployment, *, action: Action, form: ActionForm) -> None:
    reason = form.cleaned_data["reason"]
    try:
        with transaction.atomic():
            before, after = action.does(deployment, minutes=form.cleaned_data.get("minutes"), reason=reason)
            record(
                f"deployment.{action.done}",
                by=operator_actor(operator_of(request), request),
                about=subject_of(deployment),
                details={"before": before, "after": after, "message": reason},
            )
    except (DrainError, RedisAway) as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, f"{action.label}: {deployment}")


def consequences(deployment: Deployment, action: str, *, state: State) -> list[str]:
    """What an action will do, in numbers."""
    all_states = [one for provider in state.providers for one in provider.deployments]
    own = next(one for one in all_states if one.row.pk == deployment.pk)
    others = [
        one for one in all_states
        if one.row.model_id == deployment.model_id and one.row.pk != deployment.pk and one.state in ("asked", "cooling")
    ]  # fmt: skip
    of_model = sum(one.recent.calls for one in all_states if one.row.model_id == deployment.model_id)
    tenants = TenantApproval.objects.filter(model_id=deployment.model_id, state="approved").count()
    said = [
        f"Calls under way there now: {own.in_flight}. They go on to their end.",
        f"Of {deployment.model.name}'s {of_model} calls in the newest {NEWEST} requests of each provider, "
        f"{own.recent.calls} went there.",
    ]
    if action in ("drain", "open"):
        names = ", ".join(str(one.row) for one in others)
        said.append(
            f"Deployments that take its calls: {len(others)} ({names})."
            if others
            else f"Nobody else serves {deployment.model.name}: calls for it are refused with 503, or go on to the next "
            f"member of their group. Tenants that have it approved: {tenants}."
        )
    if action == "trust":
        said.append(f"It is {own.words} now; it gets calls at once, and its breaker opens again by what they do.")
    if action == "resume":
        said.append(f"It gets calls again in every process within two seconds, at priority {deployment.priority}.")
    return said
