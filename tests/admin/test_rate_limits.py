"""Rate limits typed into the admin: what is none is explained at its field, and nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tenants.models import LIMIT_FIELDS, RateLimit, Tenant
from tests.factories import make_tenant


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("acme")


def add(client: Client, tenant: Tenant, **fields: str) -> Any:
    given = {"scope": "tenant", "subject": "", "enabled": "on"}
    return client.post(reverse("admin:tenants_ratelimit_add"), {"tenant": tenant.pk, **given, **fields})


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


@pytest.mark.parametrize("text", ["-1", "0", "NaN", "inf", "1.5", "many", "100000000000", "1" + "0" * 30, "1e400"])
@pytest.mark.parametrize("field", LIMIT_FIELDS)
def test_a_senseless_limit_is_explained_at_its_field(operator: Client, tenant: Tenant, field: str, text: str) -> None:
    response = add(operator, tenant, **{field: text})
    assert response.status_code == 200 and field in errors(response)
    assert not RateLimit.objects.exists()


def test_a_limit_is_typed_and_one_at_least(operator: Client, tenant: Tenant) -> None:
    assert "at least one" in str(errors(add(operator, tenant)))
    assert add(operator, tenant, requests_per_minute="60", concurrency="5").status_code == 302
    assert RateLimit.objects.get().requests_per_minute == 60
