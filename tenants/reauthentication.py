"""The password again, before what moves money, makes keys or shuts somebody out.

A session that was left open, or a cookie that was taken, is not enough for these. Whoever gave the password within the
last minutes is not asked; everybody else is, on a page that keeps what was being sent and sends it once the password is
right. Logging in counts.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers
from django_ratelimit.core import get_usage
from unfold.admin import ModelAdmin

from tenants.audit import operator_actor, record, subject_of
from tenants.models import Operator

logger = logging.getLogger(__name__)

FIELD = "password_again"
SESSION_KEY = "password_given_at"
NOT_SENT_AGAIN = frozenset({FIELD, "csrfmiddlewaretoken"})


@receiver(user_logged_in, dispatch_uid="reauthentication")
def _logged_in(*, request: HttpRequest | None = None, **_signal: Any) -> None:
    if request is not None and hasattr(request, "session"):
        request.session[SESSION_KEY] = time.time()


def is_recent(request: HttpRequest) -> bool:
    """Whether this session's operator gave the password within REAUTHENTICATION_MINUTES."""
    age_seconds = time.time() - float(request.session.get(SESSION_KEY, 0))
    return 0 <= age_seconds < settings.REAUTHENTICATION_MINUTES * 60


def ask_password(request: HttpRequest, context: dict[str, Any]) -> HttpResponse | None:
    """The page that asks; None for whoever has just given the password, or gives it with this POST.

    `context` is the admin site's own, with a `title`. Call it when the operator is known to be permitted.
    """
    if is_recent(request):
        return None
    problem = ""
    if FIELD in request.POST:
        problem = _problem(request)
        if not problem:
            request.session[SESSION_KEY] = time.time()
            return None
    kept = [(name, value) for name, values in request.POST.lists() if name not in NOT_SENT_AGAIN for value in values]
    if "next" not in request.POST:  # where an action's button was pressed: from the page that asks nobody can tell
        kept.append(("next", request.headers.get("Referer", "")))
    page = {"kept": kept, "field": FIELD, "problem": problem, "minutes": settings.REAUTHENTICATION_MINUTES}
    response = TemplateResponse(request, "admin/password_again.html", {**context, **page})
    add_never_cache_headers(response)
    return response


def _problem(request: HttpRequest) -> str:
    """What is wrong with the password that was given; empty for nothing."""
    operator = request.user
    assert isinstance(operator, Operator)
    rate = f"{settings.LOGIN_TRIES_PER_MINUTE}/m"
    usage = get_usage(request, group="password-again", key=lambda *_: str(operator.pk), rate=rate, increment=True)
    if usage is not None and usage["should_limit"]:
        logger.warning("reauthentication.throttled", extra={"operator": operator.username})
        return f"Too many tries. Try again in {max(1, int(usage['time_left']))} s."
    if operator.check_password(request.POST[FIELD]):
        return ""
    by = operator_actor(operator, request)
    record("operator.password_refused", by=by, about=subject_of(operator), details={"page": request.path})
    return "This is not your password."


class PasswordAgain(ModelAdmin):
    """Has chosen forms of a model's admin ask. Actions say so in `operator_action`, other views ask themselves."""

    asks_password: tuple[str, ...] = ()
    """Which forms have the password given again before they are saved: "add", "change", "delete"."""

    def ask_password(self, request: HttpRequest) -> HttpResponse | None:
        """The page that asks, for whoever is permitted but did not give the password lately; else None."""
        context = {**self.admin_site.each_context(request), "title": "Your password again", "opts": self.opts}
        return ask_password(request, context)

    def ask_password_for(self, kind: str, request: HttpRequest) -> HttpResponse | None:
        """The same for the POST of one kind of form; None where it does not ask, or is refused anyway."""
        may = getattr(self, f"has_{kind}_permission")
        if request.method != "POST" or kind not in self.asks_password or not may(request):
            return None
        return self.ask_password(request)

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *rest: Any, **named: Any) -> Any:
        asking = self.ask_password_for("change" if object_id else "add", request)
        return asking or super().changeform_view(request, object_id, *rest, **named)

    def delete_view(self, request: HttpRequest, object_id: str, *rest: Any, **named: Any) -> Any:
        asking = self.ask_password_for("delete", request)
        return asking or super().delete_view(request, object_id, *rest, **named)
