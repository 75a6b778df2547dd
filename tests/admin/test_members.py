"""A tenant's member sees their own tenant and nothing of any other, by no page, filter, search, file or action."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from billing.models import Budget, Statement
from billing.money import NANO_PER_USD
from tenants.keys import digest_key
from tenants.models import ApiKey, Membership, Operator, Role, Tenant
from tenants.scoping import MEMBER_PAGES, TENANT_OF
from tenants.selectors import find_principal
from tests.admin.conftest import LogIn
from tests.admin.seeding import Seeded, add_usage
from tests.admin.test_access import everything, model_pages
from tests.factories import make_key, make_tenant

LISTS = [name for name in MEMBER_PAGES if name.endswith("_changelist")]


@pytest.fixture
def own(db: None) -> Tenant:
    return make_tenant("our-own")


@pytest.fixture
def member(own: Tenant, log_in: LogIn) -> Client:
    client = log_in(Role.MEMBER)
    Membership.objects.create(operator=Operator.objects.get(username="an-member"), tenant=own)
    return client


def foreign_names(own: Tenant) -> list[str]:
    """What must not be read anywhere: names of other tenants, and of their keys and projects."""
    others = Tenant.objects.exclude(pk=own.pk)
    keys = ApiKey.objects.exclude(tenant=own).values_list("name", flat=True)
    return [*others.values_list("name", flat=True), *(f">{name}<" for name in keys)]


def site_pages() -> Iterator[str]:
    """The site's own pages, those that take no argument."""
    for pattern in admin.site.get_urls():
        if not isinstance(pattern, URLPattern) or pattern.pattern.converters:
            continue
        if pattern.name not in (None, "app_list", "logout"):
            yield reverse(f"admin:{pattern.name}")


def test_no_page_shows_another_tenant(member: Client, own: Tenant, seeded: Seeded) -> None:
    names = foreign_names(own)
    assert "first-tenant" in names
    before = everything()
    shown = set()
    for page in model_pages(seeded):
        response = member.get(page.url)
        assert response.status_code in (200, 302, 403, 404), page
        if response.status_code == 200:
            shown.add(page.model)
            assert page.kind == "changelist", f"{page} is a row of another tenant"
            text = response.content.decode()
            assert [name for name in names if name in text] == [], page
        assert member.post(page.url).status_code in (403, 404), page
    assert shown == {label.partition(".")[2] for label in TENANT_OF} - {"project"}
    assert everything() == before


def test_no_page_of_the_site_shows_another_tenant(member: Client, own: Tenant, seeded: Seeded) -> None:
    for url in [*site_pages(), "/admin/tenants/", "/admin/autocomplete/?app_label=tenants&model_name=apikey"]:
        response = member.get(url)
        text = response.content.decode()
        assert [name for name in foreign_names(own) if name in text] == [], url
    home = member.get(reverse("admin:index"))
    assert home["Location"] == reverse("admin:tenants_tenant_change", args=[own.pk])


@pytest.mark.parametrize("page", LISTS)
def test_no_filter_or_search_reaches_another_tenant(page: str, member: Client, own: Tenant, seeded: Seeded) -> None:
    other = seeded.tenant
    names = foreign_names(own)
    url = reverse(f"admin:{page}")
    for query in (
        f"tenant__id__exact={other.pk}", f"tenant={other.pk}", f"budget__tenant__id__exact={other.pk}",
        f"budget__id__exact={seeded.budget.pk}", f"id__exact={other.pk}", f"tenant__name={other.name}",
        f"keys__name__startswith={other.name}", "q=zzz-no-such", "o=1", "created_at_from=2020-01-01", "p=0",
    ):  # fmt: skip
        response = member.get(f"{url}?{query}", follow=True)
        assert response.status_code in (200, 400), query
        text = response.content.decode()
        assert [name for name in names if name in text] == [], query


def test_sums_over_a_list_are_of_their_own_calls(member: Client, own: Tenant, seeded: Seeded) -> None:
    key, _ = make_key(own)
    charge = add_usage(key, seeded.model.deployments.first())
    page = member.get(reverse("admin:billing_usagerecord_changelist"))
    assert [row.pk for row in page.context["cl"].result_list] == [charge.pk]
    assert page.context["cl"].totals.calls == 1


def test_a_member_sees_their_own(member: Client, own: Tenant, seeded: Seeded) -> None:
    key, _ = make_key(own, name="our-key")
    budget = Budget.objects.create(tenant=own, limit_nano_usd=NANO_PER_USD)
    period = {"period": "month", "timezone": "UTC", "tenant_name": own.name}
    starts = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    issued = {"number": "S-1", "sequence": 1, "issued_at": timezone.now()}
    draft, final = (
        Statement.objects.create(
            tenant=own, state=state, starts_at=starts.replace(month=month), ends_at=starts.replace(month=month + 1),
            **period, **more,
        )
        for state, month, more in (("draft", 2, {}), ("issued", 1, issued))
    )  # fmt: skip
    assert member.get(reverse("admin:tenants_tenant_change", args=[own.pk])).status_code == 200
    assert "our-key" in member.get(reverse("admin:tenants_apikey_changelist")).content.decode()
    assert member.get(reverse("admin:tenants_apikey_change", args=[key.pk])).status_code == 200
    assert member.get(reverse("admin:billing_budget_change", args=[budget.pk])).status_code == 200
    assert member.get(reverse("admin:billing_statement_csv", args=[final.pk])).status_code == 200
    assert member.get(reverse("admin:billing_statement_csv", args=[draft.pk])).status_code == 404
    assert "Statement" in member.get(reverse("admin:billing_statement_changelist")).content.decode()


def test_a_member_rotates_their_key_and_no_other(member: Client, own: Tenant, seeded: Seeded) -> None:
    key, old = make_key(own, name="ci")
    foreign = ApiKey.objects.filter(tenant=seeded.tenant).first()
    assert foreign is not None
    url = reverse("admin:tenants_apikey_rotate", args=[key.pk])
    assert "Rotate" in member.post(url).content.decode()
    assert ApiKey.objects.get(pk=key.pk).previous_until is None, "it was only asked"
    assert "valid choice" in member.post(url, {"confirmed": "yes", "overlap_hours": "9999"}).content.decode()
    answer = member.post(url, {"confirmed": "yes", "overlap_hours": "24"})
    assert answer.status_code == 200
    text = answer.context["key_text"]
    assert "no-store" in answer["Cache-Control"]
    for presented, hours in ((text, None), (old, 24)):
        principal = find_principal(digest_key(presented, settings.API_KEY_PEPPER))
        assert principal is not None
        assert (principal.key_id, principal.key_name) == (key.pk, "ci"), "budgets of the key go on"
        ends = principal.expires_at
        assert ends is None if hours is None else abs(ends - timezone.now() - dt.timedelta(hours=hours)).seconds < 60
    assert text not in "".join(LogEntry.objects.values_list("change_message", flat=True))
    other = reverse("admin:tenants_apikey_rotate", args=[foreign.pk])
    assert member.post(other, {"confirmed": "yes", "overlap_hours": "0"}).status_code == 404
    assert member.post(reverse("admin:tenants_apikey_revoke", args=[key.pk])).status_code == 403


def test_who_belongs_nowhere_sees_nothing(log_in: LogIn, seeded: Seeded) -> None:
    client = log_in(Role.MEMBER)
    assert client.get(reverse("admin:index"))["Location"] == reverse("admin:tenants_tenant_changelist")
    assert client.get(reverse("admin:tenants_tenant_changelist")).context["cl"].result_count == 0


def test_a_membership_that_is_gone_shows_nothing_more(member: Client, own: Tenant) -> None:
    page = reverse("admin:tenants_tenant_change", args=[own.pk])
    assert member.get(page).status_code == 200
    Membership.objects.all().delete()
    assert member.get(page).status_code == 404 or member.get(page).status_code == 302


def test_only_members_belong_to_a_tenant(owner: Client, operator: Client, own: Tenant) -> None:
    url = reverse("admin:tenants_membership_add")
    viewer = Operator.objects.create(username="looks-on", role=Role.VIEWER, is_staff=True)
    person = Operator.objects.create(username="belongs", role=Role.MEMBER, is_staff=True)
    assert "whose role is Member" in owner.post(url, {"operator": viewer.pk, "tenant": own.pk}).content.decode()
    assert "This field is required" in owner.post(url, {"operator": person.pk}).content.decode()
    assert operator.post(url, {"operator": person.pk, "tenant": own.pk}).status_code == 403
    assert owner.post(url, {"operator": person.pk, "tenant": own.pk}).status_code == 302
    assert Membership.objects.get().created_by.username == "an-owner"
    assert "already" in owner.post(url, {"operator": person.pk, "tenant": own.pk}).content.decode()
