"""Keys are shown once, providers' secrets never."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.urls import reverse

from providers.credentials import decrypt_secret
from providers.models import Credential, Deployment, Provider
from tenants.models import ApiKey
from tests.admin.seeding import Seeded
from tests.factories import make_provider, make_tenant

SECRET = "sk-canary-0123456789abcdef"


def add_key(client: Client, **fields: Any) -> Any:
    return client.post(reverse("admin:tenants_apikey_add"), {"name": "backend", **fields})


def test_a_new_key_is_shown_once_and_kept_nowhere(operator: Client, caplog: pytest.LogCaptureFixture) -> None:
    tenant = make_tenant("acme")
    with caplog.at_level(logging.DEBUG):
        response = add_key(operator, tenant=tenant.pk, scopes=["chat"], ip_allow_list="10.0.0.0/8, 192.0.2.7")
    assert response.status_code == 200
    text = response.context["key_text"]
    assert text.startswith("bsr_live_")
    assert text in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    key = ApiKey.objects.get(tenant=tenant)
    assert (key.scopes, key.ip_allow_list, key.created_by.username) == (
        ["chat"], ["10.0.0.0/8", "192.0.2.7"], "an-operator"
    )  # fmt: skip

    assert text not in str(response.headers) + str(response.cookies)
    assert list(get_messages(response.wsgi_request)) == []
    assert text not in caplog.text
    assert text not in "".join(LogEntry.objects.values_list("change_message", flat=True))
    assert text not in json.dumps(dict(operator.session))
    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text FROM tenants_apikey t")
        assert text not in str(cursor.fetchall())
    for url in ("admin:tenants_apikey_changelist", "admin:index"):
        assert text not in operator.get(reverse(url)).content.decode()
    assert text not in operator.get(reverse("admin:tenants_apikey_change", args=[key.pk])).content.decode()


def test_sending_the_form_again_makes_no_second_key(operator: Client) -> None:
    tenant = make_tenant()
    assert add_key(operator, tenant=tenant.pk).status_code == 200
    again = add_key(operator, tenant=tenant.pk)
    assert "already exists" in again.content.decode()
    assert ApiKey.objects.filter(tenant=tenant).count() == 1


@pytest.mark.parametrize("scopes", [["*"], ["admin"], ["chat", "role: admin"]])
def test_a_key_gets_no_scope_that_does_not_exist(scopes: list[str], operator: Client) -> None:
    response = add_key(operator, tenant=make_tenant().pk, scopes=scopes)
    assert "not one of the available choices" in response.content.decode()
    assert not ApiKey.objects.exists()


def test_a_key_belongs_to_a_project_of_its_own_tenant(operator: Client, seeded: Seeded) -> None:
    response = add_key(operator, tenant=make_tenant().pk, project=seeded.tenant.projects.first().pk)
    assert "belongs to another tenant" in response.content.decode()


def test_a_key_never_moves_to_another_tenant(operator: Client, seeded: Seeded) -> None:
    key = ApiKey.objects.filter(tenant=seeded.tenant).first()
    fields = {"name": key.name, "project": key.project_id, "tenant": make_tenant().pk}
    assert operator.post(reverse("admin:tenants_apikey_change", args=[key.pk]), fields).status_code == 302
    key.refresh_from_db()
    assert key.tenant_id == seeded.tenant.pk


def test_a_credentials_secret_goes_in_and_never_comes_out(
    owner: Client, viewer: Client, caplog: pytest.LogCaptureFixture
) -> None:
    provider = make_provider("https://api.example.com/v1")
    fields = {"provider": provider.pk, "name": "default", "enabled": "on"}
    add = reverse("admin:providers_credential_add")
    assert "required" in owner.post(add, fields).content.decode()
    with caplog.at_level(logging.DEBUG):
        assert owner.post(add, {**fields, "secret": SECRET}).status_code == 302
    credential = Credential.objects.get()
    assert decrypt_secret(credential) == SECRET
    assert SECRET not in caplog.text
    assert SECRET not in "".join(LogEntry.objects.values_list("change_message", flat=True))
    page = reverse("admin:providers_credential_change", args=[credential.pk])
    for client in (owner, viewer):
        for url in (page, reverse("admin:providers_credential_changelist")):
            html = client.get(url).content.decode()
            assert "…cdef" in html
            assert SECRET not in html
            assert credential.ciphertext not in html

    assert owner.post(page, {"name": "renamed", "enabled": "on", "secret": ""}).status_code == 302
    credential.refresh_from_db()
    assert (credential.name, decrypt_secret(credential)) == ("renamed", SECRET)
    assert owner.post(page, {"name": "renamed", "enabled": "on", "secret": "sk-another-0000wxyz"}).status_code == 302
    credential.refresh_from_db()
    assert (decrypt_secret(credential), credential.last_four) == ("sk-another-0000wxyz", "wxyz")


@pytest.mark.parametrize("secret", ["two words", "line\nbreak", "ключ"])
def test_a_secret_that_no_header_can_carry_is_refused(secret: str, owner: Client) -> None:
    fields = {"provider": make_provider("https://api.example.com/v1").pk, "name": "default", "secret": secret}
    response = owner.post(reverse("admin:providers_credential_add"), fields)
    assert "no spaces" in response.content.decode()
    assert secret not in response.content.decode()
    assert not Credential.objects.exists()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://api.example.com/v1", "Use https"),
        ("https://127.0.0.1/v1", "This address is private"),
        ("https://user:pass@api.example.com", "Put the credential"),
        ("", "Give a URL"),
    ],
)
def test_a_base_url_that_may_not_be_used_is_explained_at_its_field(url: str, problem: str, operator: Client) -> None:
    fields = {"name": "vendor", "kind": "openai_compatible", "base_url": url, "enabled": "on"}
    response = operator.post(reverse("admin:providers_provider_add"), fields)
    assert problem in response.context["adminform"].form.errors["base_url"][0]
    assert not Provider.objects.exists()


def test_a_provider_needs_a_kind(operator: Client) -> None:
    response = operator.post(
        reverse("admin:providers_provider_add"), {"name": "vendor", "base_url": "https://x.example"}
    )
    assert "required" in response.context["adminform"].form.errors["kind"][0]


def test_only_who_sees_to_a_key_says_where_it_is_sent(operator: Client, owner: Client) -> None:
    provider = make_provider("https://api.example.com/v1", secret=SECRET, allow_private_network=False)
    page = reverse("admin:providers_provider_change", args=[provider.pk])
    fields = {"name": provider.name, "kind": provider.kind, "base_url": "https://thief.example/v1", "enabled": "on"}
    inlines = re.findall(r'name="(\w+)-TOTAL_FORMS"', operator.get(page).content.decode())
    fields |= {f"{inline}-{name}_FORMS": "0" for inline in inlines for name in ("TOTAL", "INITIAL")}
    assert operator.post(page, fields).status_code == 302
    provider.refresh_from_db()
    assert provider.base_url == "https://api.example.com/v1"
    assert owner.post(page, {**fields, "base_url": "https://moved.example/v1"}).status_code == 302
    provider.refresh_from_db()
    assert provider.base_url == "https://moved.example/v1"


def test_a_deployment_takes_no_other_providers_credential(operator: Client, seeded: Seeded) -> None:
    other = make_provider("https://api.example.com/v1")
    fields = {
        "model": seeded.model.pk, "provider": other.pk, "credential": Credential.objects.first().pk,
        "upstream_model": "m", "priority": "1", "weight": "1",
    }  # fmt: skip
    before = Deployment.objects.count()
    response = operator.post(reverse("admin:providers_deployment_add"), fields)
    assert "belongs to another provider" in response.content.decode()
    assert Deployment.objects.count() == before
