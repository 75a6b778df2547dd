"""Admin pages for what answers calls: providers, their credentials, and deployments of models at them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.validators import RegexValidator
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget

from providers.admin.health import (
    COLOURS,
    BoardChangeList,
    DeployedInline,
    HealthInline,
    ProviderChangeList,
    troubles,
)
from providers.asking import Probe
from providers.breakers import read_board
from providers.credentials import replace_secret, use_again
from providers.health_checks import check_credential
from providers.model_lists import Comparison, ModelListError, compare_models
from providers.models import Credential, Deployment, ProbeStatus, Provider
from providers.selectors import worst_of
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, operator_action, two_lines, utc

CREATED = utc("created_at", "Created")
CHANGED = utc("changed_at", "Changed")

TIMEOUTS = (
    "connect_timeout_seconds",
    "first_token_timeout_seconds",
    "idle_timeout_seconds",
    "total_timeout_seconds",
)

validate_secret = RegexValidator(r"^[\x21-\x7e]+$", "A secret has no spaces and only ASCII characters.")


class ProviderForm(forms.ModelForm):
    """Providers whose adapter knows its own address need none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "base_url" in self.fields:
            self.fields["base_url"].required = False


@admin.register(Provider)
class ProviderAdmin(OperatorModelAdmin):
    """Vendors and servers that answer calls."""

    form = ProviderForm
    list_display = ("name", "kind", "base_url", "enabled", "show_status", "last_probe", "last_error", "breakers")
    list_filter = (("kind", ChoicesDropdownFilter), "enabled")
    search_fields = ("name", "base_url")
    fields = ("name", "kind", "base_url", "allow_private_network", "on_disconnect", *TIMEOUTS, "enabled", CREATED)
    readonly_fields = (CREATED,)
    inlines = (HealthInline, DeployedInline)
    object_actions = ("compare",)
    may_be_deleted = True
    empty_hint = "A provider is a vendor or a server of yours that answers calls: add one, then its credential."

    @display(description="Status", label=COLOURS)
    def show_status(self, provider: Provider) -> tuple[str, str]:
        health = worst_of(provider.health.all())
        status = ProbeStatus(health.status) if health else ProbeStatus.UNKNOWN
        return status, status.label

    @display(description="Last probe, UTC")
    def last_probe(self, provider: Provider) -> str:
        health = worst_of(provider.health.all())
        if health is None:
            return "none yet"
        latency = f"{health.latency_ms} ms" if health.latency_ms is not None else "no answer"
        return two_lines(f"{health.checked_at:%Y-%m-%d %H:%M:%S}", latency)

    @display(description="Last error")
    def last_error(self, provider: Provider) -> str:
        health = worst_of(provider.health.all())
        if health is None or health.last_error_at is None:
            return "-"
        return two_lines(health.last_error[:100], f"{health.last_error_at:%Y-%m-%d %H:%M:%S}")

    @display(description="Breakers")
    def breakers(self, provider: Provider) -> str:
        return troubles(provider.board, provider)  # type: ignore[attr-defined]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ProviderChangeList

    @operator_action(label="Compare models", done="Models compared", refusals=(ModelListError,))
    def compare(self, provider: Provider, *, by: Operator, reason: str) -> Comparison:
        return compare_models(provider)

    def response_action(self, request: HttpRequest, obj: models.Model, *, result: Any) -> HttpResponse | None:
        """What was found, as a list to decide on."""
        messages.success(request, f"{obj}: {result.as_text()}.")
        page = reverse("admin:providers_offeredmodel_changelist")
        return HttpResponseRedirect(f"{page}?provider__id__exact={obj.pk}")

    def get_readonly_fields(self, request: HttpRequest, obj: Provider | None = None) -> tuple[Any, ...]:
        """Where a stored key is sent is for those to say who may see to the key."""
        if obj is None or request.user.has_perm("providers.change_credential"):
            return self.readonly_fields
        return (*self.readonly_fields, "kind", "base_url", "allow_private_network")


class CredentialForm(forms.ModelForm):
    """The secret goes in and never comes out."""

    secret = forms.CharField(
        max_length=4096,
        validators=[validate_secret],
        widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"}),
        help_text="The provider's API key. It is stored encrypted and not shown again.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["secret"].required = False
            self.fields["secret"].help_text = "Leave empty to keep the secret that is stored."


@admin.register(Credential)
class CredentialAdmin(OperatorModelAdmin):
    """Providers' keys. Everyone sees which there are; only owners set them."""

    form = CredentialForm
    list_display = ("name", "provider", "show_last_four", "enabled", CHANGED)
    list_select_related = ("provider",)
    list_filter = (("provider", AutocompleteSelectFilter), "enabled")
    search_fields = ("name", "provider__name")
    autocomplete_fields = ("provider",)
    readonly_fields = ("show_last_four", "show_standing", CREATED, CHANGED)
    object_actions = ("test", "use_again")
    asks_password = ("add", "change", "delete")
    may_be_deleted = True
    empty_hint = "A credential is a provider's API key. The mock provider and local servers need none."

    @display(description="Secret")
    def show_last_four(self, credential: Credential) -> str:
        return f"…{credential.last_four}" if credential.last_four else "stored"

    @display(description="Standing")
    def show_standing(self, credential: Credential) -> str:
        board = read_board()
        if not board.is_known:
            return "not known while Redis is away"
        if not board.refuses(credential):
            return "in use" if credential.enabled else "switched off"
        return "refused by its provider, so it is not used: store another secret, or mend it there and use it again"

    def get_fields(self, request: HttpRequest, obj: Credential | None = None) -> tuple[Any, ...]:
        if obj is None:
            return ("provider", "name", "secret", "enabled")
        secret = ("secret",) if self.has_change_permission(request, obj) else ()
        return ("provider", "name", "show_last_four", *secret, "enabled", "show_standing", CREATED, CHANGED)

    def get_readonly_fields(self, request: HttpRequest, obj: Credential | None = None) -> tuple[Any, ...]:
        return (*self.readonly_fields, "provider") if obj else self.readonly_fields

    def save_model(
        self, request: HttpRequest, obj: Credential, form: forms.ModelForm[Credential], change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if form.cleaned_data["secret"]:
            replace_secret(obj, form.cleaned_data["secret"])

    @operator_action(label="Test", done="Tested")
    def test(self, credential: Credential, *, by: Operator, reason: str) -> Probe:
        return check_credential(credential)

    @operator_action(
        label="Use again",
        done="Is used again",
        offered=lambda credential: read_board().refuses(credential),
    )
    def use_again(self, credential: Credential, *, by: Operator, reason: str) -> None:
        use_again(credential)

    def response_action(self, request: HttpRequest, obj: models.Model, *, result: Any) -> HttpResponse | None:
        """What the provider said, on the page where the button was pressed."""
        if not isinstance(result, Probe):
            return super().response_action(request, obj, result=result)
        if result.is_fine:
            messages.success(request, f"{obj}: the provider took it, in {result.latency_ms} ms.")
        elif result.is_fine is None:
            messages.warning(request, f"{obj}: the provider answered, and did not say. {result.error}")
        else:
            messages.error(request, f"{obj}: {result.error}")
        return HttpResponseRedirect(self.page_of_origin(request, obj))


@admin.register(Deployment)
class DeploymentAdmin(OperatorModelAdmin):
    """One model at one provider."""

    list_display = (
        "model", "provider", "upstream_model", "credential_name", "priority", "weight", "enabled", "breaker",
    )  # fmt: skip
    list_select_related = ("model", "provider", "credential")
    list_filter = (("model", AutocompleteSelectFilter), ("provider", AutocompleteSelectFilter), "enabled")
    search_fields = ("model__name", "provider__name", "upstream_model")
    autocomplete_fields = ("model", "provider", "credential")
    empty_hint = "A deployment says which provider serves a model, and under which name."

    @display(description="Credential")
    def credential_name(self, deployment: Deployment) -> str:
        return deployment.credential.name if deployment.credential else "the provider's first"

    @display(description="Breaker")
    def breaker(self, deployment: Deployment) -> str:
        return deployment.board.describe(deployment.pk)  # type: ignore[attr-defined, no-any-return]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoardChangeList
