"""Admin pages for what tenants are told: webhooks, notifications, and what became of each delivery."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from tenants.models import EVENTS, Delivery, DeliveryState, Notification, Operator, WebhookEndpoint
from tenants.operator_admin import OperatorModelAdmin, ReadOnlyInline, operator_action, password_again, utc
from tenants.webhooks import create_endpoint, replay, rotate_secret, send_test

CREATED = utc("created_at", "Created")
STATE_LABELS = {
    DeliveryState.PENDING: "info",
    DeliveryState.DELIVERED: "success",
    DeliveryState.DEAD: "danger",
}


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(OperatorModelAdmin):
    """Tenants' webhooks. The secret is in the answer to the form that made it, and nowhere else ever."""

    list_display = ("show_host", "tenant", "event_names", "enabled", "allow_private_network", CREATED)
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), "enabled")
    search_fields = ("tenant__name",)
    autocomplete_fields = ("tenant",)
    recorded = (utc("previous_until", "The previous secret signs until"), CREATED)
    object_actions = ("test", "rotate")
    empty_hint = "A webhook is a tenant's URL that budget alerts and statements are posted to, signed."

    @display(description="Webhook")
    def show_host(self, endpoint: WebhookEndpoint) -> str:
        """The URL as those see it who may not change it: paths of webhooks carry tokens."""
        return endpoint.host

    @display(description="Events")
    def event_names(self, endpoint: WebhookEndpoint) -> str:
        return ", ".join(endpoint.events) or "Everything"

    def get_fields(self, request: HttpRequest, obj: WebhookEndpoint | None = None) -> tuple[Any, ...]:
        url = "url" if obj is None or self.has_change_permission(request, obj) else "show_host"
        fields = ("tenant", url, "events", "enabled", "allow_private_network")
        return (*fields, *self.recorded) if obj else fields

    def get_readonly_fields(self, request: HttpRequest, obj: WebhookEndpoint | None = None) -> tuple[Any, ...]:
        """Only an owner says what is called inside a private network."""
        shown: tuple[Any, ...] = ("show_host", *self.recorded, "tenant") if obj else ()
        if request.user.has_perm("tenants.allow_private_network"):
            return shown
        guarded = ("url",) if obj is not None and obj.allow_private_network else ()
        return (*shown, *guarded, "allow_private_network")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One Save: what follows is the page with the secret."""
        hidden = dict.fromkeys(("show_save_and_continue", "show_save_and_add_another"), False)
        response: HttpResponse = super().add_view(request, form_url, {**(extra_context or {}), **hidden})
        return response

    def save_model(
        self, request: HttpRequest, obj: WebhookEndpoint, form: forms.ModelForm[WebhookEndpoint], change: bool
    ) -> None:
        if change:
            super().save_model(request, obj, form, change)
        else:
            request.webhook_secret = create_endpoint(obj)  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: WebhookEndpoint, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._show_secret(request, obj, secret=request.webhook_secret)  # type: ignore[attr-defined]

    def response_action(self, request: HttpRequest, obj: models.Model, *, result: Any) -> HttpResponse | None:
        """What `rotate` returns is shown at once; the test has nothing to show."""
        return self._show_secret(request, obj, secret=result) if result else None

    def _show_secret(self, request: HttpRequest, obj: models.Model, *, secret: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Signing secret",
            "opts": self.opts,
            "endpoint": obj,
            "secret": secret,
        }
        response = TemplateResponse(request, "admin/tenants/webhookendpoint/secret.html", context)
        add_never_cache_headers(response)
        return response

    @operator_action(label="Send a test", done="A test was sent", offered=lambda endpoint: endpoint.enabled)
    def test(self, endpoint: WebhookEndpoint, *, by: Operator, reason: str) -> None:
        send_test(endpoint)

    @password_again
    @operator_action(
        label="New secret",
        done="Secret renewed",
        question="The new secret is shown once. The one in use now signs for 24 more hours; the one before that ends.",
    )
    def rotate(self, endpoint: WebhookEndpoint, *, by: Operator, reason: str) -> str:
        return rotate_secret(endpoint)


class RecordAdmin(OperatorModelAdmin):
    """Rows that only the outbox writes."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class DeliveryInline(ReadOnlyInline):
    """Where a notification went."""

    model = Delivery
    fields = ("show_channel", "show_state", "attempts", utc("next_at", "Next"), "last_error")
    readonly_fields = fields
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Delivery]:
        rows: models.QuerySet[Delivery] = super().get_queryset(request).select_related("endpoint", "notification")
        return rows

    @display(description="To")
    def show_channel(self, delivery: Delivery) -> str:
        return delivery.channel

    @display(description="State", label=STATE_LABELS)
    def show_state(self, delivery: Delivery) -> tuple[str, str]:
        return delivery.state, delivery.get_state_display()


@admin.register(Notification)
class NotificationAdmin(RecordAdmin):
    """What tenants were told, whichever way it went."""

    list_display = (CREATED, "tenant", "event", "key")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), ("event", ChoicesDropdownFilter))
    search_fields = ("tenant__name", "key")
    ordering = ("-created_at",)
    fields = ("id", "tenant", "event", "key", "show_data", CREATED)
    readonly_fields = fields
    inlines = (DeliveryInline,)
    empty_hint = f"A row is written when there is something to tell: {', '.join(EVENTS)}."

    @display(description="Data")
    def show_data(self, notification: Notification) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(notification.data, indent=2, ensure_ascii=False))


@admin.register(Delivery)
class DeliveryAdmin(RecordAdmin):
    """Each way a notification goes, and how far it got."""

    list_display = ("show_channel", "tenant", "event", "show_state", "attempts", utc("next_at", "Next"), "last_error")
    list_select_related = ("notification__tenant", "endpoint")
    list_filter = (("notification__tenant", AutocompleteSelectFilter), ("state", ChoicesDropdownFilter))
    search_fields = ("notification__tenant__name", "email")
    ordering = ("-pk",)
    fields = (
        "show_channel", "tenant", "notification", "show_state", "attempts", utc("next_at", "Next"), "last_error",
        utc("delivered_at", "Delivered"),
    )  # fmt: skip
    readonly_fields = fields
    object_actions = ("replay",)
    empty_hint = "A delivery is written for each webhook and e-mail address that is to be told."

    @display(description="To")
    def show_channel(self, delivery: Delivery) -> str:
        return delivery.channel

    @display(description="Tenant")
    def tenant(self, delivery: Delivery) -> str:
        return delivery.notification.tenant.name

    @display(description="Event")
    def event(self, delivery: Delivery) -> str:
        return delivery.notification.event

    @display(description="State", ordering="state", label=STATE_LABELS)
    def show_state(self, delivery: Delivery) -> tuple[str, str]:
        return delivery.state, delivery.get_state_display()

    def has_replay_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        return bool(request.user.has_perm("tenants.change_delivery"))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        """The row itself is nobody's to change, but those who may replay it get the button."""
        obj = kwargs.get("obj")
        if obj is not None and self.has_replay_permission(request):
            context["object_actions"] = self.offered_actions(obj)
        response: HttpResponse = super().render_change_form(request, context, **kwargs)
        return response

    @operator_action(
        label="Deliver again",
        done="Delivered again",
        permission="replay",
        question="It is sent again, under the id it had, until it is taken.",
        offered=lambda delivery: delivery.state != DeliveryState.PENDING,
    )
    def replay(self, delivery: Delivery, *, by: Operator, reason: str) -> None:
        replay(delivery)
