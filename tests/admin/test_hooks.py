"""Hooks in the admin: a form made from each hook's settings, and the box they are tried in."""

from __future__ import annotations

import html
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from gateway.hooks.models import HookBinding
from gateway.hooks.registry import HOOKS
from gateway.hooks.settings_form import setting_names
from tenants.models import Project, Tenant, WebhookEndpoint
from tenants.webhooks import create_endpoint
from tests.factories import make_tenant

ADD = reverse("admin:gateway_hookbinding_add")


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("acme")


def page(row: HookBinding, kind: str = "change") -> str:
    return reverse(f"admin:gateway_hookbinding_{kind}", args=[row.pk])


def form_of(tenant: Tenant, **more: Any) -> dict[str, Any]:
    placed = {"position": "100", "timeout_ms": "1000", "on_failure": "closed", "enabled": "on", "model": ""}
    return {"tenant": tenant.pk, "name": "clean", **placed, **more}


def test_first_which_hook(operator: Client, viewer: Client) -> None:
    choices = html.unescape(operator.get(ADD).content.decode())
    for name, hook in HOOKS.items():
        assert f"?hook={name}" in choices and hook.description[:30] in choices
    assert viewer.get(ADD).status_code == 403


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_every_setting_has_a_field_with_its_description(name: str, operator: Client) -> None:
    response = operator.get(f"{ADD}?hook={name}")
    fields = response.context["adminform"].form.fields
    assert [field for field in fields if field.startswith("setting_")] == setting_names(HOOKS[name])
    assert all(fields[field].help_text for field in setting_names(HOOKS[name]))


def test_a_form_becomes_settings_and_settings_a_form(operator: Client, tenant: Tenant) -> None:
    given = form_of(
        tenant,
        setting_email="on",
        setting_phone_regions="DE\n\n AT ",
        setting_numbers=["de_idnr", "us_ssn"],
        setting_names="Anna Schmidt\nO'Neil",
        setting_patterns='[{"label": "STAFF", "pattern": "EMP-[0-9]{6}"}]',
        setting_reinsert="on",
    )
    assert operator.post(f"{ADD}?hook=pii_redaction", given).status_code == 302
    row = HookBinding.objects.get()
    assert (row.hook, row.tenant, row.on_failure) == ("pii_redaction", tenant, "closed")
    assert row.settings == {
        "phone": False,
        "phone_regions": ["DE", "AT"],
        "iban": False,
        "card": False,
        "numbers": ["de_idnr", "us_ssn"],
        "names": ["Anna Schmidt", "O'Neil"],
        "patterns": [{"label": "STAFF", "pattern": "EMP-[0-9]{6}"}],
    }
    form = operator.get(page(row)).context["adminform"].form
    assert form["setting_names"].value() == "Anna Schmidt\nO'Neil"
    assert form["setting_numbers"].value() == ["de_idnr", "us_ssn"]
    assert form["setting_email"].value() is True and form["setting_card"].value() is False
    assert operator.post(page(row), {**given, "setting_names": "", "setting_card": "on"}).status_code == 302
    row.refresh_from_db()
    assert "names" not in row.settings and "card" not in row.settings, "what is as by default is not kept"


@pytest.mark.parametrize(
    ("hook", "given", "field"),
    [
        ("pii_redaction", {"setting_phone": "on", "setting_phone_regions": "Germany"}, "setting_phone_regions"),
        ("pii_redaction", {"setting_patterns": '[{"label": "STAFF", "pattern": "(a+)+$"}]'}, "setting_patterns"),
        ("pii_redaction", {"setting_patterns": "[{"}, "setting_patterns"),
        ("pii_redaction", {}, "__all__"),
        ("word_lists", {"setting_blocked_patterns": "(", "setting_action": "block", "setting_requests": "on"},
         "setting_blocked_patterns"),
        ("transformation", {"setting_request": '[{"op": "set", "path": "$.model", "value": "x"}]'}, "setting_request"),
        ("size_policy", {"setting_max_messages": "-1"}, "setting_max_messages"),
        ("webhook", {"setting_url": "", "setting_answers_as_streams": "hold"}, "setting_url"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_field(
    hook: str, given: dict[str, Any], field: str, operator: Client, tenant: Tenant
) -> None:
    response = operator.post(f"{ADD}?hook={hook}", form_of(tenant, **given))
    assert response.status_code == 200
    assert list(response.context["adminform"].form.errors) == [field]
    assert not HookBinding.objects.exists()


def test_what_is_another_tenants_is_refused(operator: Client, tenant: Tenant) -> None:
    other = make_tenant()
    project = Project.objects.create(tenant=other, name="theirs")
    response = operator.post(f"{ADD}?hook=noop", form_of(tenant, project=project.pk))
    assert list(response.context["adminform"].form.errors) == ["project"]
    create_endpoint(WebhookEndpoint(tenant=other, url="https://theirs.example/x"))
    given = {"setting_url": "https://theirs.example/x", "setting_answers_as_streams": "hold", "setting_requests": "on"}
    response = operator.post(f"{ADD}?hook=webhook", form_of(tenant, **given))
    assert list(response.context["adminform"].form.errors) == ["setting_url"]


def test_the_box_to_try_it_in(operator: Client, viewer: Client, tenant: Tenant) -> None:
    row = HookBinding.objects.create(tenant=tenant, name="clean", hook="pii_redaction")
    assert page(row, "preview") in operator.get(page(row)).content.decode()
    asked = {"text": "Ask anna@example.com", "answer": "I asked [EMAIL_1]"}
    response = operator.post(page(row, "preview"), asked)
    told = [(trial.stage, trial.verdict, trial.text) for trial in response.context["trials"]]
    assert told == [
        ("The request", "modify", "Ask [EMAIL_1]"),
        ("The answer", "modify", "I asked anna@example.com"),
    ]
    assert viewer.get(page(row, "preview")).status_code == viewer.post(page(row, "preview"), asked).status_code == 403


def test_the_box_tells_of_blocks_and_failures(operator: Client, tenant: Tenant) -> None:
    words = {"blocked_terms": ["orion"], "answers": False}
    row = HookBinding.objects.create(tenant=tenant, name="words", hook="word_lists", settings=words)
    [trial] = operator.post(page(row, "preview"), {"text": "Orion!", "answer": "x"}).context["trials"]
    assert (trial.verdict, trial.text) == ("block", None) and "it has a term of the list" in trial.reason
    request, answer = operator.post(page(row, "preview"), {"text": "fine", "answer": "orion"}).context["trials"]
    assert (request.verdict, answer.verdict, answer.reason) == ("allow", "allow", "It does not look at these.")
    row.settings = {"blocked_terms": ["+"]}
    row.save()
    [trial] = operator.post(page(row, "preview"), {"text": "fine"}).context["trials"]
    assert trial.verdict == "failed" and "A term begins with" in trial.reason


def test_a_hook_that_this_release_does_not_have(operator: Client, tenant: Tenant) -> None:
    row = HookBinding.objects.create(tenant=tenant, name="old", hook="gone", settings={"a": 1})
    assert operator.get(page(row)).status_code == 200
    assert operator.get(reverse("admin:gateway_hookbinding_changelist")).status_code == 200
