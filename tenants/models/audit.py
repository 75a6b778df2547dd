"""What an auditor is shown: events, each chained to the one before it, a chain for each tenant and one of the platform.

Rows get their place in their chain from `audit_append`, a function in the database that every process shares; nobody
inserts events by hand. `tenants.audit` is for what happens in a transaction, `gateway.audit` for calls.
"""

from __future__ import annotations

from typing import Any

import orjson
from django.db import models

from tenants.models.people import Tenant

PLATFORM = 0
"""The chain of what is no tenant's."""

GENESIS = "0" * 64
"""What the first event of a chain follows."""


class ActorKind(models.TextChoices):
    """Who did it."""

    OPERATOR = "operator", "Operator"
    KEY = "key", "API key"
    SYSTEM = "system", "The platform itself"
    NOBODY = "nobody", "Somebody unknown"


class _Fact(models.Model):
    """What is told of an event, before and after it has its place."""

    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.DO_NOTHING,
        null=True,
        db_constraint=False,
        db_index=False,
        related_name="+",
        help_text="Whose it is; empty for the platform's.",
    )
    happened_at = models.DateTimeField(help_text="By the clock of the process that saw it.")
    event = models.CharField(max_length=64, help_text="What happened, such as request.completed or tenant.suspended.")
    actor_kind = models.CharField(max_length=8, choices=ActorKind.choices)
    actor_id = models.BigIntegerField(null=True)
    actor = models.CharField(max_length=150, blank=True, help_text="Their name at that time.")
    address = models.CharField(max_length=45, blank=True, help_text="Where an operator's request came from.")
    object_type = models.CharField(max_length=64)
    object_id = models.CharField(max_length=128)
    object_name = models.CharField(max_length=200, blank=True)
    data = models.TextField(help_text="The details as JSON, kept as the text that was hashed.")

    class Meta:
        abstract = True

    @property
    def details(self) -> dict[str, Any]:
        """The details; for a change `before` and `after`. Empty for a row that somebody has broken."""
        try:
            read = orjson.loads(self.data)
        except orjson.JSONDecodeError:
            return {}
        return read if isinstance(read, dict) else {}


class AuditEvent(_Fact):
    """One thing that happened. Rows are only ever added; the table has a partition for each month of `created_at`."""

    id = models.BigAutoField(primary_key=True)
    sequence = models.BigIntegerField(help_text="Its place in its chain, from 1.")
    created_at = models.DateTimeField(help_text="When it was chained, by the database's clock.")
    digest = models.CharField(max_length=64, help_text="SHA-256 over the digest before it and all its columns.")

    class Meta:
        verbose_name = "audit event"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="audit_by_tenant"),
            models.Index(fields=["-created_at", "-id"], name="audit_by_time"),
            models.Index(
                fields=["actor", "-created_at", "-id"], condition=~models.Q(actor_kind="key"), name="audit_by_actor"
            ),
            models.Index(
                fields=["object_type", "object_id", "-created_at"],
                condition=~models.Q(actor_kind="key"),
                name="audit_by_object",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} #{self.sequence}"

    @property
    def chain(self) -> int:
        """The chain it is in: its tenant's id, or `PLATFORM`."""
        return self.tenant_id or PLATFORM


class AuditDraft(_Fact):
    """An event of a transaction under way: a trigger chains it when that commits, so no committed row is ever here."""

    id = models.BigAutoField(primary_key=True)

    class Meta:
        verbose_name = "audit draft"

    def __str__(self) -> str:
        return self.event


class AuditChain(models.Model):
    """Where a chain ends, and what its first event that is still kept follows."""

    chain = models.BigIntegerField(primary_key=True, help_text="The tenant's id; 0 for the platform.")
    sequence = models.BigIntegerField(default=0, db_default=0)
    digest = models.CharField(max_length=64, default=GENESIS, db_default=GENESIS)
    appended_at = models.DateTimeField(null=True)
    base_sequence = models.BigIntegerField(default=0, db_default=0, help_text="The last event whose month was dropped.")
    base_digest = models.CharField(max_length=64, default=GENESIS, db_default=GENESIS)

    class Meta:
        ordering = ["chain"]
        verbose_name = "audit chain"

    def __str__(self) -> str:
        return f"chain {self.chain}"
