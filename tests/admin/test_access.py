"""Every URL of the admin, for every role, by GET and by POST."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import Model as DjangoModel
from django.urls import URLPattern, URLResolver, reverse

from billing.models import BudgetOverride
from providers.models import GroupMember, LifecycleChange, ProviderHealth
from tenants.models import Role
from tests.admin.conftest import LogIn
from tests.admin.seeding import NOT_ADDED, RECORDS, SHOWN, Seeded

SITE_PAGES = {
    "index": (), "password_change": (), "password_change_done": (), "jsi18n": (), "search": (),
    "app_list": ("tenants",),
}  # fmt: skip
DELETABLE = {
    "schematype", "provider", "credential", "modelgroup", "agenttype", "ratelimit", "offeredmodel", "hookbinding",
    "cacherule", "membership",
}  # fmt: skip
OWNERS_ONLY = {"operator", "credential", "markup", "membership"}
ONLY_ADDED = {"price", "markup", "reconciliationrun"}
FILES = {"csv", "xlsx", "pdf", "export"}
LOOKING = {"changelist", "change", "history", "settings"} | FILES
STATEMENT_ACTIONS = {"refresh": Role.OPERATOR, "issue": Role.OWNER, "lock": Role.OWNER, "credit": Role.OWNER}
"""And the least role that takes it."""


@dataclass(frozen=True)
class Page:
    """One URL of one model."""

    model: str
    kind: str
    url: str

    @property
    def is_action(self) -> bool:
        return self.kind not in LOOKING | {"add", "delete", "password", "preview", "against"}

    def opens_for(self, role: str) -> bool:
        """Whether a GET answers 200."""
        return self.kind in LOOKING or self._is_changed_by(role)

    def takes_post_of(self, role: str) -> bool:
        return self.kind not in {"changelist", "history"} | FILES and self._is_changed_by(role)

    def _is_changed_by(self, role: str) -> bool:
        if self.kind in {"adjust", "reveal"}:
            return role == Role.OWNER
        kept = ("replay", "remove", "against", "cancel", "retry")
        if role == Role.VIEWER or (self.model in RECORDS and self.kind not in kept):
            return False
        if self.model == "statement":
            return STATEMENT_ACTIONS.get(self.kind) in (Role.OPERATOR, role)
        if role == Role.OPERATOR and (self.model in OWNERS_ONLY or self.kind == "delete"):
            return False
        if self.kind == "delete":
            return self.model in DELETABLE
        if self.kind == "add":
            return self.model not in NOT_ADDED
        return self.kind != "change" or self.model not in ONLY_ADDED


def model_pages(seeded: Seeded) -> Iterator[Page]:
    """The URLs that the model admins declare, each filled with a row that exists."""
    for model in SHOWN:
        name = model._meta.model_name
        row = seeded.page_object(model)
        for pattern in admin.site._registry[model].get_urls():
            if pattern.name is None:
                continue
            kind = "password" if "password" in pattern.name else pattern.name.rsplit("_", 1)[1]
            arguments = [row.pk] if pattern.pattern.converters else []
            yield Page(name, kind, reverse(f"admin:{pattern.name}", args=arguments))


def everything() -> dict[str, list[Any]]:
    """All rows an operator could change, sessions and the time of the last login aside."""
    tables: tuple[type[DjangoModel], ...] = (
        *SHOWN,
        BudgetOverride,
        GroupMember,
        LifecycleChange,
        ProviderHealth,
        LogEntry,
    )
    return {table._meta.label: list(table._default_manager.order_by("pk").values()) for table in tables}


def test_every_url_of_the_site_is_accounted_for() -> None:
    known = {*SITE_PAGES, "login", "logout", "autocomplete", "view_on_site", None}
    found = {pattern.name for pattern in admin.site.get_urls() if isinstance(pattern, URLPattern)}
    assert found == known
    included = [pattern for pattern in admin.site.get_urls() if isinstance(pattern, URLResolver)]
    assert len(included) == len(SHOWN) == len(admin.site._registry)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.OWNER])
def test_a_get_answers_only_what_the_role_allows_and_changes_nothing(role: str, log_in: LogIn, seeded: Seeded) -> None:
    client = log_in(role)
    before = everything()
    for page in model_pages(seeded):
        expected = 405 if page.is_action else 200 if page.opens_for(role) else 403
        assert client.get(page.url).status_code == expected, page
    for name, arguments in SITE_PAGES.items():
        assert client.get(reverse(f"admin:{name}", args=arguments)).status_code == 200, name
    assert everything() == before


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.OWNER])
def test_a_post_is_refused_unless_the_role_may_change_that(role: str, log_in: LogIn, seeded: Seeded) -> None:
    client = log_in(role)
    before = everything()
    for page in model_pages(seeded):
        status = client.post(page.url).status_code
        assert status in (200, 302) if page.takes_post_of(role) else status == 403, (page, status)
    if role == Role.VIEWER:
        for name, arguments in SITE_PAGES.items():
            client.post(reverse(f"admin:{name}", args=arguments))
        assert everything() == before


@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_gets_further_than_the_login(method: str, log_in: LogIn, seeded: Seeded) -> None:
    client = log_in("")
    before = everything()
    urls = [page.url for page in model_pages(seeded)]
    urls += [reverse(f"admin:{name}", args=arguments) for name, arguments in SITE_PAGES.items()]
    urls += [reverse("admin:autocomplete"), reverse("admin:view_on_site", args=(1, 1)), "/admin/no/such/page/"]
    for url in urls:
        response = getattr(client, method)(url)
        assert response.status_code == 302, url
        assert response["Location"].startswith(reverse("admin:login")), url
    assert everything() == before


def test_an_operator_switched_off_is_nobody(log_in: LogIn, seeded: Seeded) -> None:
    client = log_in(Role.OWNER)
    assert client.get(reverse("admin:index")).status_code == 200
    response = client.get(reverse("admin:index"))
    response.wsgi_request.user.__class__.objects.update(is_active=False)
    assert client.get(reverse("admin:index")).status_code == 302


def test_an_action_without_a_csrf_token_is_refused(log_in: LogIn, seeded: Seeded) -> None:
    client = log_in(Role.OWNER)
    client.handler.enforce_csrf_checks = True
    assert client.post(reverse("admin:providers_model_deprecate", args=[seeded.model.pk])).status_code == 403


@pytest.mark.parametrize(
    "url",
    [
        "providers/credential/?ciphertext__startswith=a",
        "providers/deployment/?provider__credentials__ciphertext__startswith=a",
        "tenants/operator/?password__startswith=pbkdf2",
        "tenants/apikey/?digest=a",
        "tenants/tenant/?keys__digest__gt=a",
    ],
)
def test_only_declared_filters_filter(url: str, viewer: Any) -> None:
    assert viewer.get(f"/admin/{url}").status_code == 400


@pytest.mark.parametrize("query", ["q=%25%25%25%25", "o=999.-999", "o=password", "p=0", "q=%00", "before=nonsense"])
def test_senseless_queries_are_answered(query: str, viewer: Any, seeded: Seeded) -> None:
    for model in SHOWN:
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert viewer.get(f"{url}?{query}").status_code in (200, 302, 400), model
