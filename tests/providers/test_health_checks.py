"""Probes of providers: what is asked, what is kept of the answers, and that two runs never overlap."""

from __future__ import annotations

import base64
import logging
from collections import Counter

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from providers import asking, tasks
from providers.credentials import store_credential
from providers.health_checks import check_credential, check_providers
from providers.models import Credential, ProbeStatus, Provider, ProviderHealth
from providers.sole_run import SoleWork
from providers.transport import Deadlines
from tests import factories
from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.google_server import FakeGoogle
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI

pytestmark = pytest.mark.django_db


@pytest.fixture
def vendor(fake_openai: FakeOpenAI) -> Provider:
    return factories.make_provider(fake_openai.base_url, secret=fake_openai.api_key, name="vendor")


def health_of(provider: Provider) -> ProviderHealth:
    return ProviderHealth.objects.get(provider=provider)


def test_every_kind_is_asked_what_costs_nothing(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    with FakeAnthropic() as anthropic, FakeGoogle() as google:
        factories.make_provider(anthropic.base_url, kind="anthropic", secret=anthropic.api_key)
        factories.make_provider(google.base_url, kind="google", secret=google.api_key)
        factories.make_provider("mock://local", kind="mock")
        tasks.check_health()
        seen = [record for fake in (fake_openai, anthropic, google) for record in fake.all_ended()]
    assert [(record.method, "models" in record.path) for record in seen] == [("GET", True)] * 3
    rows = ProviderHealth.objects.all()
    assert {row.status for row in rows} == {ProbeStatus.OK} and len(rows) == 4
    assert all(row.latency_ms is not None and row.average_latency_ms is not None for row in rows)


def test_a_provider_fails_and_recovers(
    fake_openai: FakeOpenAI, vendor: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    fake_openai.script(
        Script(status=500, error={"message": "all is\nlost \x00" + "x" * 9000}), path="/v1/models", times=3
    )
    for failures in (1, 2, 3):
        assert check_providers() == Counter({"failing": 1})
        assert health_of(vendor).failures_in_a_row == failures
    broken = health_of(vendor)
    assert broken.last_error.startswith("HTTP 500: all is lost x") and len(broken.last_error) == 500
    assert broken.last_error_at == broken.checked_at and broken.latency_ms is not None

    assert check_providers() == Counter({"ok": 1})
    well = health_of(vendor)
    assert (well.pk, well.failures_in_a_row, well.status) == (broken.pk, 0, ProbeStatus.OK)
    assert well.last_error == broken.last_error and well.last_error_at < well.checked_at, "what was last is still told"
    assert [record.message for record in caplog.records] == ["probe.failing", "probe.recovered"]


@pytest.mark.parametrize(("status", "stands"), [(404, "unknown"), (429, "unknown"), (503, "failing"), (302, "failing")])
def test_what_a_status_says(fake_openai: FakeOpenAI, vendor: Provider, status: int, stands: str) -> None:
    fake_openai.script(Script(status=status, headers={"location": "/elsewhere"}), path="/v1/models")
    assert check_providers() == Counter({stands: 1})
    assert health_of(vendor).last_error.startswith(f"HTTP {status}")


def test_nobody_there_and_a_private_address_that_is_not_allowed(db: None) -> None:
    gone = factories.make_provider("http://127.0.0.1:9/v1")
    refused = factories.make_provider("https://127.0.0.1:9/v1", allow_private_network=False)
    assert check_providers() == Counter({"failing": 2})
    assert "cannot be reached" in health_of(gone).last_error and health_of(gone).latency_ms is None
    assert "not a public address" in health_of(refused).last_error


def test_a_provider_that_hangs_holds_up_no_other(
    fake_openai: FakeOpenAI, vendor: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "DEADLINES", Deadlines(connect=1, idle=0.3, total=0.5))
    fake_openai.script(Script(hold_before_headers=True), path="/v1/models")
    mock = factories.make_provider("mock://local", kind="mock")
    assert check_providers() == Counter({"failing": 1, "ok": 1})
    assert "deadline" in health_of(vendor).last_error and health_of(mock).status == ProbeStatus.OK
    fake_openai.release()


def test_each_credential_counts_and_none_is_shown(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    wrong = store_credential(vendor, "sk-wrong-key-0000-1111", name="wrong")
    store_credential(vendor, "sk-off", name="off")
    Credential.objects.filter(name="off").update(enabled=False)
    assert check_providers() == Counter({"ok": 1, "failing": 1})
    assert ProviderHealth.objects.get(status="failing").credential == wrong

    fake_openai.script(Script(status=403, error={"message": f"I was sent {fake_openai.api_key}!"}), path="/v1/models")
    assert check_providers() == Counter({"failing": 2})
    told = ProviderHealth.objects.exclude(credential=wrong).get().last_error
    assert told == "HTTP 403: I was sent (the credential)!"

    Credential.objects.filter(pk=wrong.pk).update(ciphertext=base64.b64encode(b"moved").decode())
    assert check_providers()["failing"] == 1
    assert "The secret of credential vendor/wrong" in ProviderHealth.objects.get(credential=wrong).last_error


def test_rows_go_with_what_they_are_about(vendor: Provider) -> None:
    check_providers()
    Provider.objects.filter(pk=vendor.pk).update(enabled=False)
    assert check_providers() == Counter()
    assert not ProviderHealth.objects.exists()
    assert check_credential(vendor.credentials.get()).is_fine, "a test asks whether or not it is enabled"
    vendor.credentials.all().delete()
    assert not ProviderHealth.objects.exists()


def test_a_probe_does_not_move_the_configuration(vendor: Provider) -> None:
    with CaptureQueriesContext(connection) as queries:
        check_providers()
    written = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert written and all("providers_providerhealth" in sql for sql in written)


def test_two_runs_never_overlap(fake_openai: FakeOpenAI, vendor: Provider) -> None:
    with psycopg.connect(settings.DATABASE_CONNINFO, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [SoleWork.HEALTH_CHECK.value])
        assert check_providers() == Counter() and not fake_openai.records
        other.execute("SELECT pg_advisory_unlock(%s)", [SoleWork.HEALTH_CHECK.value])
    assert check_providers() == Counter({"ok": 1}), "the control: nobody else is at it"
    assert check_providers() == Counter({"ok": 1}), "a run lets go of its lock"
