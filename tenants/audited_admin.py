"""What hooks every operator action into the audit log, once for all pages.

Django's admin reads the object it is going to change through `get_object` and tells of each change through one of three
methods, inside the change's transaction. So does `operator_admin.perform_action`. Between the two lies the change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

from django.db import models
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from tenants.audit import operator_actor, record, subject_of, type_name
from tenants.audit_snapshots import Snapshot, changed, plain, shown, snapshot
from tenants.models import Operator

Key = tuple[type[models.Model], Any]


def verb_of(done: str) -> str:
    """An action's past tense as an event has it: `Sent a test` is `sent_a_test`."""
    return re.sub(r"\W+", "_", done.lower()).strip("_")


class AuditedAdmin(ModelAdmin):
    """Leaves an event with before and after for every addition, change, deletion and action."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        obj = super().get_object(request, object_id, from_field)
        if obj is not None and request.method == "POST":
            _taken(request)[type(obj), obj.pk] = self._state(request, obj)
        return obj

    def log_addition(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        """Tell of an object that was made."""
        self._record(request, obj, verb="added", details={"before": None, "after": shown(self._now(request, obj))})
        return super().log_addition(request, obj, message)

    def log_change(
        self,
        request: HttpRequest,
        obj: models.Model,
        message: Any,
        *,
        verb: str = "changed",
        made: models.Model | None = None,
    ) -> Any:
        """Tell of a change; `message` is Django's list of fields, or an action's text with the operator's reason.

        `made` is a row that the change consists of, such as an adjustment of a charge, which itself stays as it was.
        """
        before = _taken(request).get((type(obj), obj.pk), {})
        details: dict[str, Any] = {**changed(before, self._now(request, obj))}
        if isinstance(message, str) and message:
            details["message"] = plain(message)
        if made is not None:
            details["after"][type_name(made)] = shown(snapshot(made))
        self._record(request, obj, verb=verb, details=details)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[models.Model]) -> Any:
        """Tell of objects that are about to go."""
        for obj in queryset:
            details = {"before": shown(self._state(request, obj)), "after": None}
            self._record(request, obj, verb="deleted", details=details)
        return super().log_deletions(request, queryset)

    def _record(self, request: HttpRequest, obj: models.Model, *, verb: str, details: dict[str, Any]) -> None:
        by = operator_actor(cast(Operator, request.user), request)
        record(f"{type_name(obj)}.{verb}"[:64], by=by, about=subject_of(obj), details=details)

    def _now(self, request: HttpRequest, obj: models.Model) -> Snapshot:
        """The row as it stands: services change it through instances of their own."""
        return self._state(request, type(obj)._base_manager.get(pk=obj.pk))

    def _state(self, request: HttpRequest, obj: models.Model) -> Snapshot:
        """The row, and the rows that are edited together with it."""
        state = snapshot(obj)
        for inline in self.get_inline_instances(request, obj):
            if inline.has_change_permission(request, obj):
                rows = inline.get_queryset(request).filter(**{_link(inline.model, type(obj)): obj})
                state[str(inline.opts.verbose_name_plural)] = [shown(snapshot(row)) for row in rows.order_by("pk")]
        return state


def _link(child: type[models.Model], parent: type[models.Model]) -> str:
    """The field by which rows of one model belong to a row of another."""
    return next(field.name for field in child._meta.concrete_fields if field.related_model is parent)


def _taken(request: HttpRequest) -> dict[Key, Snapshot]:
    """What was read before the change, kept on the request that makes it."""
    if not hasattr(request, "audit_snapshots"):
        request.audit_snapshots = {}  # type: ignore[attr-defined]
    return cast(dict[Key, Snapshot], request.audit_snapshots)  # type: ignore[attr-defined]
