"""The admin's pages of models as a lifecycle: a queue of what waits, and what approving and retiring stand on."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from gateway.desk.model_impact import impact_in_numbers, impact_of
from gateway.desk.readiness import (
    candidates_of,
    ending_models,
    list_differences,
    open_proposals,
    proposed_models,
)
from providers.admin.models import RegisteredModelAdmin
from providers.model_checks import check_model
from providers.models import Lifecycle, Model, ModelCheck, ProbeStatus
from providers.selectors import SERVING
from providers.services import (
    ALLOWED_MOVES,
    LifecycleError,
    move_model,
    needs_two,
    proposer_of,
    second_model,
    set_end,
)
from tenants.models import Operator
from tenants.operator_admin import ActionSpec, ReasonForm, action_of, operator_action

admin.site.unregister(Model)

LEVELS = {
    ProbeStatus.OK: messages.success,
    ProbeStatus.UNKNOWN: messages.warning,
    ProbeStatus.FAILING: messages.error,
}


class EndForm(ReasonForm):
    """What takes a model's place, and until when it answers."""

    successor = forms.ModelChoiceField(
        label="Successor", queryset=Model.objects.none(), required=False, widget=UnfoldAdminSelectWidget,
        help_text="Clients of the retired model are told its name.",
    )  # fmt: skip
    retires_at = forms.DateTimeField(
        label="Retires by itself at, UTC", required=False,
        widget=UnfoldAdminTextInputWidget({"type": "datetime-local"}),
        help_text="Empty: it answers until somebody retires it.",
    )  # fmt: skip
    field_order = ("successor", "retires_at", "reason")

    def __init__(self, *args: Any, about: models.Model, **kwargs: Any) -> None:
        super().__init__(*args, about=about, **kwargs)
        serving = Model.objects.filter(lifecycle__in=SERVING).exclude(pk=about.pk)
        self.fields["successor"].queryset = serving  # type: ignore[attr-defined]
        self.fields["successor"].initial = getattr(about, "successor_id", None)

    def clean_retires_at(self) -> dt.datetime | None:
        retires_at: dt.datetime | None = self.cleaned_data["retires_at"]
        if retires_at is not None and retires_at <= timezone.now():
            raise forms.ValidationError("This moment has passed.")
        return retires_at


def _may_be_seconded(model: Model) -> bool:
    return needs_two() and model.lifecycle == Lifecycle.PROPOSED and proposer_of(model) is None


def _can_become(state: Lifecycle) -> Any:
    return lambda model: state in ALLOWED_MOVES[model.lifecycle]


@admin.register(Model)
class ModelDeskAdmin(RegisteredModelAdmin):
    """Approves on evidence, and says who loses what before a model goes."""

    list_before_template = "admin/providers/model/queue.html"
    change_form_before_template = "admin/providers/model/card.html"
    object_actions = ("approve", "test", "second", "deprecate", "retire", "propose")
    buttons_in_list = False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The queue stands above the list, unless somebody is searching in it."""
        queue: dict[str, Any] = {}
        if request.method == "GET" and not request.GET:
            waiting = [(one, self.offered_actions(one.model, permitted_to=request)) for one in proposed_models()]
            queue = {
                "waiting": waiting,
                "ending": ending_models(),
                "price_proposals": open_proposals(),
                "differences": list_differences(),
                "needs_two": needs_two(),
            }
        response: HttpResponse = super().changelist_view(request, {"queue": queue, **(extra_context or {})})
        return response

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None:
            (context["candidate"],) = candidates_of([obj])
            context["impact"] = impact_of(obj)
            context["needs_two"] = needs_two()
        response: HttpResponse = super().render_change_form(request, context, **kwargs)
        return response

    def response_action(self, request: HttpRequest, obj: models.Model, *, result: Any) -> HttpResponse | None:
        """What providers said, on the page where the button was pressed."""
        if not isinstance(result, list):
            return None
        for check in result:
            LEVELS[ProbeStatus(check.status)](request, check.words)
        if not result:
            messages.warning(request, f"{obj} has no enabled deployment to ask.")
        return HttpResponseRedirect(self.page_of_origin(request, obj))

    @operator_action(
        label="Approve",
        done="Approved",
        refusals=(LifecycleError,),
        offered=_can_become(Lifecycle.APPROVED),
    )
    def approve(self, model: Model, *, by: Operator, reason: str) -> None:
        """Asks the providers first where the last answers are older than a day."""
        (candidate,) = candidates_of([model])
        if [need.name for need in candidate.missing] == ["Live test"]:
            check_model(model, by=by)
            (candidate,) = candidates_of([model])
        if candidate.missing:
            missing = "; ".join(f"{need.name.lower()}: {need.words}" for need in candidate.missing)
            raise LifecycleError(f"{model.name} cannot be approved yet. {missing}.")
        move_model(model, Lifecycle.APPROVED, by=by, reason=reason, evidence=candidate.evidence())

    @operator_action(label="Test", done="Tested", offered=lambda model: model.lifecycle != Lifecycle.RETIRED)
    def test(self, model: Model, *, by: Operator, reason: str) -> list[ModelCheck]:
        return check_model(model, by=by)

    @operator_action(label="Second", done="Seconded", refusals=(LifecycleError,), offered=_may_be_seconded)
    def second(self, model: Model, *, by: Operator, reason: str) -> None:
        second_model(model, by=by, reason=reason)

    @action_of(
        ActionSpec(
            label="Deprecate",
            done="Deprecated",
            permission="change",
            question="It keeps answering calls, and its callers should move to its successor.",
            refusals=(LifecycleError,),
            offered=_can_become(Lifecycle.DEPRECATED),
            consequences=impact_in_numbers,
            form=EndForm,
        )
    )
    def deprecate(
        self, model: Model, *, by: Operator, reason: str, successor: Model | None, retires_at: dt.datetime | None
    ) -> None:
        move_model(model, Lifecycle.DEPRECATED, by=by, reason=reason)
        set_end(model, successor=successor, retires_at=retires_at)

    @action_of(
        ActionSpec(
            label="Retire",
            done="Retired",
            permission="change",
            question="It stops answering calls in every process within two seconds.",
            refusals=(LifecycleError,),
            offered=_can_become(Lifecycle.RETIRED),
            consequences=impact_in_numbers,
        )
    )
    def retire(self, model: Model, *, by: Operator, reason: str) -> None:
        move_model(model, Lifecycle.RETIRED, by=by, reason=reason)
