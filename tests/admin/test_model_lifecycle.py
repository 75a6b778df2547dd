"""Models as a lifecycle: what an approval needs, who has to agree, and who loses what when one goes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import PriceProposal
from billing.services import read_rates, set_price
from providers.models import Deployment, Lifecycle, Model, ModelCheck, OfferedModel
from providers.services import approve_for_tenant, move_model, propose_model, retire_due_models
from tenants.models import AuditDraft, AuditEvent, Operator, Role
from tests.admin.conftest import LogIn
from tests.admin.seeding import add_usage
from tests.admin.test_actions import confirm, press, said
from tests.factories import make_group, make_key, make_model, make_provider, make_tenant
from tests.fakes.openai_server import FakeOpenAI

LIST = reverse("admin:providers_model_changelist")


class Proposals:
    """Makes proposed models at a vendor that lists them, or at nobody's address."""

    def __init__(self, fake: FakeOpenAI) -> None:
        self._fake = fake

    def __call__(
        self, name: str = "waiting", *, by: Operator | None = None, priced: bool = True, reached: bool = True
    ) -> Model:
        url = self._fake.base_url if reached else "http://127.0.0.1:9/v1"
        provider = make_provider(url, secret=self._fake.api_key)
        model = propose_model(Model(name=name, capabilities=["chat"]), by=by)
        Deployment.objects.create(model=model, provider=provider, upstream_model="gpt-5.2")
        if priced:
            set_price(model, read_rates({"input": "1", "output": "2"}))
        return model


@pytest.fixture
def proposed(fake_openai: FakeOpenAI, db: None) -> Proposals:
    return Proposals(fake_openai)


def state_of(model: Model) -> str:
    return str(Model.objects.get(pk=model.pk).lifecycle)


def card(client: Client, model: Model) -> str:
    return client.get(reverse("admin:providers_model_change", args=[model.pk])).content.decode()


def test_a_model_is_approved_on_evidence(operator: Client, proposed: Proposals) -> None:
    model = proposed()
    queue = operator.get(LIST).content.decode()
    assert "Live test: not asked in the last 24 hours" in queue
    assert reverse("admin:providers_model_approve", args=[model.pk]) in queue
    press(operator, "providers_model_approve", model)
    assert state_of(model) == Lifecycle.APPROVED
    evidence = model.lifecycle_changes.get(to_state="approved").evidence
    assert evidence[0] == "Price: input 1, output 2 USD per million"
    assert "takes the credential and lists gpt-5.2" in evidence[3]
    assert "Waiting for approval" in operator.get(LIST).content.decode()
    assert "lists gpt-5.2" in card(operator, model)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"priced": False}, "price: none"),
        ({"reached": False}, "live test: "),
    ],
)
def test_what_is_missing_is_named(fields: dict[str, Any], missing: str, operator: Client, proposed: Proposals) -> None:
    model = proposed(**fields)
    (refusal,) = said(press(operator, "providers_model_approve", model))
    assert "waiting cannot be approved yet" in refusal
    assert missing in refusal
    assert state_of(model) == Lifecycle.PROPOSED


def test_a_test_keeps_what_providers_say(operator: Client, viewer: Client, proposed: Proposals) -> None:
    model = proposed(reached=False)
    assert "could not be asked" in said(press(operator, "providers_model_test", model))[0]
    assert ModelCheck.objects.get().checked_by.username == "an-operator"
    assert "could not be asked" in card(operator, model)
    assert press(viewer, "providers_model_test", model).status_code == 403


def test_two_people_approve_where_that_is_the_rule(
    log_in: LogIn, operator: Client, settings: Any, proposed: Proposals
) -> None:
    settings.MODEL_APPROVERS = 2
    first = Operator.objects.get(username="an-operator")
    own = proposed("own", by=first)
    assert "somebody else approves" in said(press(operator, "providers_model_approve", own))[-1]
    listed = proposed("listed")
    assert "press Second" in said(press(operator, "providers_model_approve", listed))[-1]
    press(operator, "providers_model_second", listed)
    assert "somebody else approves" in said(press(operator, "providers_model_approve", listed))[-1]
    assert "needs no first person" in said(press(operator, "providers_model_second", listed))[-1]
    owner = log_in(Role.OWNER)
    for model in (own, listed):
        press(owner, "providers_model_approve", model)
        assert state_of(model) == Lifecycle.APPROVED


def test_one_person_is_enough_unless_it_is_the_rule(operator: Client, proposed: Proposals) -> None:
    model = proposed(by=Operator.objects.get(username="an-operator"))
    press(operator, "providers_model_approve", model)
    assert state_of(model) == Lifecycle.APPROVED


def test_who_loses_what_is_said_first(operator: Client, db: None) -> None:
    model = make_model(make_provider("http://127.0.0.1:9/v1"), name="old")
    make_group(model, name="house")
    tenant = make_tenant("acme")
    key, _ = make_key(tenant)
    approve_for_tenant(tenant, model, by=None)
    for _ in range(2):
        add_usage(key, model.deployments.get())
    asked = press(operator, "providers_model_retire", model).content.decode()
    assert "1 tenants made 2 calls to it, for 0.0009 USD" in asked
    assert "1 tenants may ask for it by name (acme)" in asked
    assert "Group house: nobody else in it serves" in asked
    assert "acme" in card(operator, model)
    assert state_of(model) == Lifecycle.APPROVED


def test_a_deprecated_model_has_a_successor_and_an_end(operator: Client, proposed: Proposals) -> None:
    old, new = (make_model(make_provider("http://127.0.0.1:9/v1"), name=name) for name in ("old", "new"))
    retired = proposed("gone")
    tomorrow = (timezone.now() + dt.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    wrong = ({"retires_at": "2020-01-01T00:00"}, {"retires_at": "soon"}, {"successor": "x"}, {"successor": retired.pk})
    for given in wrong:
        assert confirm(operator, "providers_model_deprecate", old, **given).status_code == 200, given
    assert state_of(old) == Lifecycle.APPROVED
    confirm(operator, "providers_model_deprecate", old, successor=new.pk, retires_at=tomorrow, reason="Old")
    old.refresh_from_db()
    assert (old.lifecycle, old.successor) == (Lifecycle.DEPRECATED, new)
    assert "new takes its place" in operator.get(LIST).content.decode()
    assert retire_due_models() == 0
    Model.objects.filter(pk=old.pk).update(retires_at=timezone.now())
    assert (retire_due_models(), retire_due_models()) == (1, 0)
    assert state_of(old) == Lifecycle.RETIRED
    assert any(table.objects.filter(event="model.retired").exists() for table in (AuditDraft, AuditEvent))
    move_model(old, Lifecycle.PROPOSED, by=None)
    assert Model.objects.get(pk=old.pk).retires_at is None


def test_what_changed_at_a_provider_is_shown(operator: Client, db: None) -> None:
    model = make_model(make_provider("http://127.0.0.1:9/v1"), name="known")
    deployment = model.deployments.get()
    listed = OfferedModel.objects.create(
        provider=deployment.provider, upstream_model=deployment.upstream_model, state="known", context_window=8192
    )
    PriceProposal.objects.create(
        model=model, rates={"input": 2}, source="genai-prices", source_version="1",
        diff=[{"tier": "", "unit": "input", "ours": "0.15", "theirs": "0.20", "percent": "33", "suspicious": False}],
    )  # fmt: skip
    text = operator.get(LIST).content.decode()
    assert "context window not stated here, 8,192 there" in text
    assert "input 0.15 → 0.20" in text
    OfferedModel.objects.filter(pk=listed.pk).update(state="gone")
    assert "no longer lists" in operator.get(LIST).content.decode()
    assert "Waiting for approval" not in operator.get(f"{LIST}?q=known").content.decode()
