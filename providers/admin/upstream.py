"""Admin pages for what answers calls: providers, their credentials, and deployments of models at them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.validators import RegexValidator
from django.http import HttpRequest
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget

from providers.credentials import replace_secret
from providers.models import Credential, Deployment, Provider
from tenants.operator_admin import OperatorModelAdmin, utc

CREATED = utc("created_at", "Created")
CHANGED = utc("changed_at", "Changed")

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
    list_display = ("name", "kind", "base_url", "enabled", "allow_private_network")
    list_filter = (("kind", ChoicesDropdownFilter), "enabled")
    search_fields = ("name", "base_url")
    fields = ("name", "kind", "base_url", "allow_private_network", "enabled", CREATED)
    readonly_fields = (CREATED,)
    may_be_deleted = True
    empty_hint = "A provider is a vendor or a server of yours that answers calls: add one, then its credential."

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
    readonly_fields = ("show_last_four", CREATED, CHANGED)
    may_be_deleted = True
    empty_hint = "A credential is a provider's API key. The mock provider and local servers need none."

    @display(description="Secret")
    def show_last_four(self, credential: Credential) -> str:
        return f"…{credential.last_four}" if credential.last_four else "stored"

    def get_fields(self, request: HttpRequest, obj: Credential | None = None) -> tuple[Any, ...]:
        if obj is None:
            return ("provider", "name", "secret", "enabled")
        secret = ("secret",) if self.has_change_permission(request, obj) else ()
        return ("provider", "name", "show_last_four", *secret, "enabled", CREATED, CHANGED)

    def get_readonly_fields(self, request: HttpRequest, obj: Credential | None = None) -> tuple[Any, ...]:
        return (*self.readonly_fields, "provider") if obj else self.readonly_fields

    def save_model(
        self, request: HttpRequest, obj: Credential, form: forms.ModelForm[Credential], change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if form.cleaned_data["secret"]:
            replace_secret(obj, form.cleaned_data["secret"])


@admin.register(Deployment)
class DeploymentAdmin(OperatorModelAdmin):
    """One model at one provider."""

    list_display = ("model", "provider", "upstream_model", "credential_name", "priority", "weight", "enabled")
    list_select_related = ("model", "provider", "credential")
    list_filter = (("model", AutocompleteSelectFilter), ("provider", AutocompleteSelectFilter), "enabled")
    search_fields = ("model__name", "provider__name", "upstream_model")
    autocomplete_fields = ("model", "provider", "credential")
    empty_hint = "A deployment says which provider serves a model, and under which name."

    @display(description="Credential")
    def credential_name(self, deployment: Deployment) -> str:
        return deployment.credential.name if deployment.credential else "the provider's first"
