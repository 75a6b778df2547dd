"""Writing down what happened, in the transaction in which it happens: neither is ever there without the other.

For what operators, commands and tasks do. Calls come by the thousand and are written in batches by `gateway.audit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.db import models
from django.http import HttpRequest
from django.utils import timezone

from tenants.client_addresses import client_address
from tenants.models import ActorKind, AuditDraft, Operator, Tenant

NAME_LENGTH = 150
OBJECT_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who did it. `name` is kept beside `id`: an auditor reads the row when neither may be there any more."""

    kind: ActorKind
    id: int | None = None
    name: str = ""
    address: str = ""


SYSTEM = Actor(kind=ActorKind.SYSTEM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What it was done to, and whose that is: `tenant_id` None is the platform's."""

    type: str
    id: str
    name: str = ""
    tenant_id: int | None = None


def record(event: str, *, by: Actor, about: Subject, details: Mapping[str, Any]) -> None:
    """Write down an event. One INSERT; it is chained when the transaction commits.

    `event` (at most 64 characters) reads `thing.happened`. `details` are JSON, for a change with `before` and `after`;
    no secrets and no text of a call.
    """
    AuditDraft.objects.create(
        tenant_id=about.tenant_id,
        happened_at=timezone.now(),
        event=event,
        actor_kind=by.kind,
        actor_id=by.id,
        actor=_clean(by.name, NAME_LENGTH),
        address=by.address,
        object_type=about.type,
        object_id=about.id[:128],
        object_name=_clean(about.name, OBJECT_NAME_LENGTH),
        data=orjson.dumps(details).decode(),
    )


def _clean(text: str, length: int) -> str:
    return text.replace("\0", "")[:length]


def address_of(request: HttpRequest) -> str:
    """Where a request of an operator's came from; empty where nobody can say."""
    return str(client_address(request.META, trusted_proxies=settings.TRUSTED_PROXIES) or "")


def operator_actor(operator: Operator, request: HttpRequest | None = None) -> Actor:
    """An operator as who did it."""
    return Actor(
        kind=ActorKind.OPERATOR,
        id=operator.pk,
        name=operator.get_username(),
        address=address_of(request) if request is not None else "",
    )


def subject_of(obj: models.Model) -> Subject:
    """A row as what it was done to."""
    return Subject(type=type_name(obj), id=str(obj.pk), name=str(obj), tenant_id=tenant_id_of(obj))


def type_name(obj: models.Model | type[models.Model]) -> str:
    """What kind of thing a row is, such as `api_key`; events about it begin with this."""
    return str(obj._meta.verbose_name).lower().replace(" ", "_")


def tenant_id_of(obj: models.Model) -> int | None:
    """Whose a row is: a tenant's own, one with a tenant, or one that belongs to such a row. None for the platform's."""
    if isinstance(obj, Tenant):
        return obj.pk
    if _names_tenant(obj._meta.model):  # not type(obj): who logs out is a lazy object
        return getattr(obj, "tenant_id", None)
    for field in obj._meta.concrete_fields:
        if field.is_relation and isinstance(field.related_model, type) and _names_tenant(field.related_model):
            owner = getattr(obj, field.name)
            if owner is not None:
                return getattr(owner, "tenant_id", None)
    return None


def _names_tenant(model: type[models.Model]) -> bool:
    return any(field.name == "tenant" for field in model._meta.concrete_fields)
