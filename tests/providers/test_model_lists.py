"""Providers' lists of models: what is new, known and gone, and that nothing follows without an operator."""

from __future__ import annotations

from io import StringIO
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from providers import tasks
from providers.model_lists import (
    ModelListError,
    compare_models,
    consider_offered,
    ignore_offered,
    propose_offered,
    sync_models,
)
from providers.models import Deployment, LifecycleChange, Model, OfferedModel, Provider
from providers.sole_run import SoleWork
from tests import factories
from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.google_server import FakeGoogle
from tests.fakes.openai.app import MODELS
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor(fake_openai: FakeOpenAI) -> Provider:
    provider = factories.make_provider(fake_openai.base_url, secret=fake_openai.api_key, name="vendor")
    factories.make_model(provider, name="chat", upstream_model="gpt-5.2")
    return provider


def lists(fake: FakeOpenAI, *names: Any) -> None:
    """Have the fake list these once."""
    body = {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
    fake.script(Script(body=body), path="/v1/models")


def states() -> dict[str, str]:
    return dict(OfferedModel.objects.values_list("upstream_model", "state"))


def offered(name: str) -> OfferedModel:
    return OfferedModel.objects.get(upstream_model=name)


def test_new_known_gone_and_back(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    found = compare_models(vendor)
    assert set(found.new) == set(MODELS) - {"gpt-5.2"} and found.known == ["gpt-5.2"] and found.gone == []
    first = offered("gpt-4o-mini")

    lists(fake_openai, "gpt-4o-mini", "brand-new")
    found = compare_models(vendor)
    assert found.new == ["brand-new", "gpt-4o-mini"] and "gpt-5.2" in found.gone
    assert offered("gpt-4o-mini").first_seen_at == first.first_seen_at
    assert offered("gpt-4o-mini").last_seen_at > first.last_seen_at == offered("gpt-5.2").last_seen_at
    assert Deployment.objects.get().enabled, "what is gone is marked, and goes on to be tried"

    compare_models(vendor)
    assert states()["gpt-5.2"] == "known" and states()["brand-new"] == "gone"
    assert Model.objects.count() == 1 and LifecycleChange.objects.count() == 2, "nothing was proposed by itself"


def test_what_is_deployed_and_was_never_listed(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    Deployment.objects.create(model=Model.objects.get(), provider=vendor, upstream_model="an-alias")
    assert compare_models(vendor).unlisted == ["an-alias"]


def test_a_list_that_cannot_be_had_changes_nothing(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    compare_models(vendor)
    before = states()
    for script in (
        Script(status=500), Script(raw_body=b"<html>"), Script(body={"object": "list", "data": []}), Script(status=401),
    ):  # fmt: skip
        fake_openai.script(script, path="/v1/models")
        with pytest.raises(ModelListError, match="vendor has no list of models to compare"):
            compare_models(vendor)
    assert states() == before


def test_names_that_no_row_can_hold_are_left_out(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    lists(fake_openai, "good", "", "x" * 201, "nul\x00", "good")
    found = compare_models(vendor)
    assert (found.new, found.unusable) == (["good"], 3)


def test_pages_and_what_vendors_say_of_their_models(db: None) -> None:
    with FakeAnthropic() as anthropic, FakeGoogle() as google:
        one = factories.make_provider(anthropic.base_url, kind="anthropic", secret=anthropic.api_key, name="one")
        two = factories.make_provider(google.base_url, kind="google", secret=google.api_key, name="two")
        found = sync_models([one, two])
    assert all(not isinstance(outcome, str) and outcome.new for outcome in found.values())
    assert OfferedModel.objects.filter(provider=two, context_window__gt=0, max_output_tokens__gt=0).exists()


def test_the_mock_has_models_too(db: None) -> None:
    assert compare_models(factories.make_provider("mock://local", kind="mock")).new


def test_a_proposal_serves_nobody_until_it_is_approved(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    compare_models(vendor)
    model = propose_offered(offered("gpt-4o-mini"), by=None)
    assert (model.name, model.lifecycle, model.capabilities) == ("gpt-4o-mini", "proposed", [])
    deployment = Deployment.objects.get(model=model)
    assert (deployment.provider, deployment.upstream_model) == (vendor, "gpt-4o-mini")
    assert LifecycleChange.objects.get(model=model).reason == "listed by vendor"
    assert states()["gpt-4o-mini"] == "known"
    with pytest.raises(ModelListError, match="is known: only a new one"):
        propose_offered(offered("gpt-4o-mini"), by=None)
    assert "gpt-4o-mini" in compare_models(vendor).known


def test_a_name_that_is_taken_here(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    """A second deployment of the model that has it would serve calls at once, which nobody approved."""
    serving = factories.make_model(vendor, name="gpt-4o-mini", upstream_model="another")
    compare_models(vendor)
    assert propose_offered(offered("gpt-4o-mini"), by=None).name == "vendor/gpt-4o-mini"
    assert serving.deployments.count() == 1

    factories.make_model(name="vendor/text-embedding-3-small")
    factories.make_group(name="text-embedding-3-small")
    with pytest.raises(ModelListError, match="add it by hand"):
        propose_offered(offered("text-embedding-3-small"), by=None)
    lists(fake_openai, "a name with spaces")
    compare_models(vendor)
    with pytest.raises(ModelListError, match="add it by hand"):
        propose_offered(offered("a name with spaces"), by=None)


def test_what_is_ignored_stays_ignored(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    compare_models(vendor)
    ignore_offered(offered("gpt-4o-mini"))
    assert compare_models(vendor).ignored == ["gpt-4o-mini"]
    lists(fake_openai, "gpt-5.2")
    assert compare_models(vendor).ignored == ["gpt-4o-mini"], "also while it is not listed"
    consider_offered(offered("gpt-4o-mini"))
    assert "gpt-4o-mini" in compare_models(vendor).new


def test_the_command(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    gone = factories.make_provider("http://127.0.0.1:9/v1", name="nobody")
    factories.make_provider("http://127.0.0.1:9/v1", name="off", enabled=False)
    printed = StringIO()
    with pytest.raises(CommandError, match=r"No list from\nnobody: .*cannot be reached"):
        call_command("sync_models", stdout=printed)
    assert "vendor: 3 new, 1 known, 0 ignored, 0 gone" in printed.getvalue() and "  + gpt-4o-mini" in printed.getvalue()
    assert "off" not in printed.getvalue()

    call_command("sync_models", "--provider", "vendor", stdout=printed)
    with pytest.raises(CommandError, match="There is no provider called 'vendro'"):
        call_command("sync_models", "--provider", "vendro")
    gone.delete()
    with psycopg.connect(settings.DATABASE_CONNINFO, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [SoleWork.MODEL_LISTS.value])
        with pytest.raises(CommandError, match="Another run is under way"):
            call_command("sync_models")
    OfferedModel.objects.all().delete()
    tasks.sync_models()
    assert len(states()) == len(MODELS)
