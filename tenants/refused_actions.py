"""What operators tried and may not do: an event each, and no more of them than tell that they tried."""

from __future__ import annotations

import threading
import time
from typing import Any

from django.apps import apps
from django.http import HttpRequest, HttpResponse
from django.views.defaults import permission_denied

from tenants.audit import Subject, operator_actor, record, type_name

EVENTS_PER_MINUTE = 10
"""Of one operator, in each process: enough to see what they tried, and no way to fill the log."""
WINDOW_SECONDS = 60


class Minutes:
    """How many events each operator has left this minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_operator: dict[int, tuple[float, int]] = {}

    def take(self, operator_id: int) -> int | None:
        """How many refusals before this one were not written down; None where this one is not to be either."""
        now = time.monotonic()
        with self._lock:
            began, count = self._by_operator.get(operator_id, (now, 0))
            left_out = 0
            if now - began >= WINDOW_SECONDS:
                began, count, left_out = now, 0, max(0, count - EVENTS_PER_MINUTE)
            self._by_operator[operator_id] = (began, count + 1)
            return left_out if count < EVENTS_PER_MINUTE else None


MINUTES = Minutes()


def refused(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The 403 page of whoever may not do what they asked for, written down."""
    operator = request.user
    if operator.is_authenticated and (left_out := MINUTES.take(operator.pk)) is not None:
        details: dict[str, Any] = {"method": request.method, "path": request.path[:300], "role": operator.role}
        if left_out:
            details["left_out_before"] = left_out
        record("operator.refused", by=operator_actor(operator, request), about=_subject(request), details=details)
    return permission_denied(request, exception)


def _subject(request: HttpRequest) -> Subject:
    """What the page is about: the name of an admin's URL is app, model and page."""
    match = request.resolver_match
    name = (match.url_name or "").split("_", 2) if match is not None else []
    if match is None or len(name) != 3:
        return Subject(type="page", id=request.path)
    try:
        model = apps.get_model(name[0], name[1])
    except LookupError:
        return Subject(type="page", id=request.path)
    return Subject(type=type_name(model), id=str(match.kwargs.get("object_id", "")), name=name[2].replace("_", " "))
