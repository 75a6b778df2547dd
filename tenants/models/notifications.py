"""What tenants are told, and on which ways: a transactional outbox.

A notification and its deliveries are written in the transaction of what they tell, so neither exists without the other.
`gateway.notifications` sends them.
"""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.timezone import now

from tenants.addresses import check_webhook_url
from tenants.models.people import Tenant

EVENTS = {
    "budget.alert": "A budget has crossed one of its percentages",
    "statement.issued": "A statement was issued",
    "hook.moderation": "Nothing by itself: for a webhook that only hooks ask",
    "webhook.test": "A test that an operator asked for",
    "realtime.session.closed": "A voice session has ended",
    "job.completed": "A job has its result",
    "job.failed": "A job has failed",
    "job.cancelled": "A job was cancelled",
    "job.expired": "A job was given up because it took too long",
}
"""What can be told. A new event is a line here, and for its e-mail a template in `templates/notifications/`."""

WEBHOOKS_ONLY = frozenset({"realtime.session.closed", "job.completed", "job.failed", "job.cancelled", "job.expired"})
"""What programs want to know, thousands of times a day: no e-mail is sent."""


def event_choices() -> list[tuple[str, str]]:
    """The events for a form; a function, so that a new one needs no migration."""
    return list(EVENTS.items())


class WebhookEndpoint(models.Model):
    """A tenant's URL that events are posted to, signed. Its secret is shown once, when it is made."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="webhooks")
    url = models.CharField("URL", max_length=1000, help_text="https; the whole address often is a secret itself.")
    events = ArrayField(
        models.CharField(max_length=64, choices=event_choices),
        default=list,
        blank=True,
        help_text="What is sent there. None chosen: everything.",
    )
    enabled = models.BooleanField(default=True)
    allow_private_network = models.BooleanField(
        default=False, help_text="Lets the URL be http, and lead to this machine or a private network."
    )
    ciphertext = models.TextField(blank=True, editable=False)
    previous_ciphertext = models.TextField(blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, editable=False, help_text="Until then the secret before this one signs as well."
    )
    created_at = models.DateTimeField(default=now, editable=False)

    audit_hidden = ("url",)

    class Meta:
        verbose_name = "webhook"
        ordering = ["tenant__name", "pk"]
        constraints = [models.UniqueConstraint(fields=["tenant", "url"], name="webhook_url_per_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant.name}: webhook at {self.host}"

    @property
    def host(self) -> str:
        """What of the URL may be shown to anybody: paths of webhooks carry tokens."""
        try:
            return urlsplit(self.url).hostname or ""
        except ValueError:
            return ""

    def clean(self) -> None:
        if refusal := check_webhook_url(self.url, allow_private_network=self.allow_private_network):
            raise ValidationError({"url": refusal})


class Notification(models.Model):
    """One thing that a tenant is told. `tenants.notifications.notify` writes them."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="notifications")
    event = models.CharField(max_length=64, choices=event_choices)
    key = models.CharField(max_length=200, help_text="Tells this from others of its event: it is written once.")
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["tenant", "event", "key"], name="notification_once")]
        indexes = [models.Index(fields=["created_at"], name="notification_created")]

    def __str__(self) -> str:
        return f"{self.event} of {self.created_at:%Y-%m-%d %H:%M:%S}"


class DeliveryState(models.TextChoices):
    PENDING = "pending", "Pending"
    DELIVERED = "delivered", "Delivered"
    DEAD = "dead", "Given up"


class Delivery(models.Model):
    """A notification on its way to one webhook or one e-mail address."""

    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, null=True, related_name="deliveries")
    email = models.EmailField(blank=True)
    state = models.CharField(max_length=16, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    attempts = models.PositiveIntegerField(default=0, help_text="Begun since it was written or replayed.")
    next_at = models.DateTimeField(
        default=now, help_text="When it is due; while it is being tried, when it is taken to have failed silently."
    )
    last_error = models.CharField(max_length=500, blank=True)
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["notification", "endpoint"], condition=Q(endpoint__isnull=False), name="delivery_per_endpoint"
            ),
            models.UniqueConstraint(
                fields=["notification", "email"], condition=~Q(email=""), name="delivery_per_email"
            ),
            models.CheckConstraint(condition=Q(endpoint__isnull=True) ^ Q(email=""), name="delivery_one_channel"),
        ]
        indexes = [models.Index(fields=["next_at"], condition=Q(state="pending"), name="delivery_due")]

    def __str__(self) -> str:
        return f"{self.notification} to {self.channel}"

    @property
    def channel(self) -> str:
        """Where it goes, as it may be shown."""
        return self.endpoint.host if self.endpoint else self.email
