"""Who logged in to the admin, who logged out, and who tried in vain. Importing this has it written down."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from tenants.audit import Actor, Subject, address_of, operator_actor, record, subject_of
from tenants.models import ActorKind, Operator


@receiver(user_logged_in, dispatch_uid="audit")
def _logged_in(*, user: Operator, request: HttpRequest | None = None, **_signal: Any) -> None:
    record("operator.logged_in", by=operator_actor(user, request), about=subject_of(user), details={})


@receiver(user_logged_out, dispatch_uid="audit")
def _logged_out(*, user: Operator | None, request: HttpRequest | None = None, **_signal: Any) -> None:
    if user is not None and user.is_authenticated:
        record("operator.logged_out", by=operator_actor(user, request), about=subject_of(user), details={})


@receiver(user_login_failed, dispatch_uid="audit")
def _refused(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_signal: Any) -> None:
    """Only a name that exists is kept: people type passwords into the wrong field."""
    meant = Operator.objects.filter(username=str(credentials.get("username", ""))).first()
    about = subject_of(meant) if meant is not None else Subject(type="operator", id="", name="no such operator")
    by = Actor(kind=ActorKind.NOBODY, address=address_of(request) if request is not None else "")
    record("operator.login_refused", by=by, about=about, details={"is_active": meant.is_active if meant else None})
