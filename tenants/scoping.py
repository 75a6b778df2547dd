"""What a tenant's member may see: the one place that narrows rows, and the one list of pages.

Both lists are of what is allowed. A model or a page that nobody has put here is not there for members.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import ResolverMatch, reverse
from django.utils.deprecation import MiddlewareMixin

from tenants.models import Membership, Role

TENANT_OF: dict[str, str] = {
    "tenants.tenant": "pk",
    "tenants.project": "tenant",
    "tenants.apikey": "tenant",
    "billing.budget": "tenant",
    "billing.budgetwindow": "budget__tenant",
    "billing.statement": "tenant",
    "billing.usagerecord": "tenant",
}
"""The models whose rows members see, and the way from a row to its tenant."""

SUMS = frozenset({"billing.entry", "billing.usagehour", "billing.usageday", "billing.userday"})
"""Where usage is added up: no pages of their own, but pages that show their sums."""

_LOOK = frozenset({"GET", "HEAD"})
_FORM = frozenset({"GET", "HEAD", "POST"})
_POST = frozenset({"POST"})

MEMBER_PAGES: dict[str, frozenset[str]] = {
    "logout": _POST,
    "password_change": _FORM,
    "password_change_done": _LOOK,
    "jsi18n": _LOOK,
    "tenants_tenant_changelist": _LOOK,
    "tenants_tenant_change": _LOOK,
    "tenants_apikey_changelist": _LOOK,
    "tenants_apikey_change": _LOOK,
    "tenants_apikey_rotate": _POST,
    "billing_budget_changelist": _LOOK,
    "billing_budget_change": _LOOK,
    "billing_budgetwindow_changelist": _LOOK,
    "billing_budgetwindow_change": _LOOK,
    "billing_statement_changelist": _LOOK,
    "billing_statement_change": _LOOK,
    "billing_statement_csv": _LOOK,
    "billing_statement_xlsx": _LOOK,
    "billing_statement_pdf": _LOOK,
    "billing_usagerecord_changelist": _LOOK,
    "billing_usagerecord_change": _LOOK,
    "desk_usage": _LOOK,
    "desk_usage_file": _LOOK,
    "desk_usage_view": _LOOK,
    "desk_usage_save": _POST,
    "desk_usage_delete": _POST,
}
"""Pages of the admin by name, with the methods that members may use there."""

_OPEN_ROUTES = frozenset({"", "admin/login/"})


def is_member(user: Any) -> bool:
    """Whether somebody sees only the tenants that they belong to."""
    return getattr(user, "role", "") == Role.MEMBER


def may_member_view(model: str) -> bool:
    """Whether members see rows of a model such as `tenants.apikey` at all."""
    return model in TENANT_OF


def visible_to(user: Any, rows: QuerySet[Any]) -> QuerySet[Any]:
    """The rows that somebody may see: all of them, but a member's own tenants' only, of models that members see."""
    if not is_member(user):
        return rows
    label = rows.model._meta.label_lower
    path = "tenant" if label in SUMS else TENANT_OF.get(label)
    if path is None:
        return rows.none()
    return rows.filter(**{f"{path}__in": Membership.objects.filter(operator=user).values("tenant")})


class MemberGate(MiddlewareMixin):
    """Middleware: a member gets no further than `MEMBER_PAGES`, whatever pages there are, and home is their tenant."""

    def process_view(self, request: HttpRequest, view: Any, *_arguments: Any) -> HttpResponse | None:
        """Before any view: None lets it answer."""
        if not is_member(request.user) or not request.user.is_active:
            return None
        match = request.resolver_match
        assert match is not None
        if match.route in _OPEN_ROUTES:
            return None
        if _admin_page(match) == "index":
            return HttpResponseRedirect(home_of(request.user))
        if request.method not in MEMBER_PAGES.get(_admin_page(match), frozenset()):
            raise PermissionDenied("This page is not for members of a tenant.")
        return None


def _admin_page(match: ResolverMatch) -> str:
    return str(match.url_name) if match.namespaces == ["admin"] else ""


def home_of(user: Any) -> str:
    """Where a member begins: their tenant's page, or the list of those that they belong to."""
    tenants = list(Membership.objects.filter(operator=user).values_list("tenant", flat=True)[:2])
    if len(tenants) == 1:
        return reverse("admin:tenants_tenant_change", args=tenants)
    return reverse("admin:tenants_tenant_changelist")
