"""`import_prices` and `preview_price`: what differs is shown, proposed once, and decided by someone."""

from __future__ import annotations

import datetime as dt
import io

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.errors import PriceError
from billing.models import Price, PriceProposal
from billing.price_imports import approve_proposal, compare, propose, reject_proposal
from billing.price_samples import Sample, sample_costs
from billing.pricing import PriceVersion
from billing.public_prices import VERSION
from billing.services import read_rates, set_price
from billing.tiers import make_tier
from providers.models import Model
from tenants.models import Operator, Role
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def mini() -> Model:
    """Ours is 0.15 and 0.90 where the public price is 0.15 and 0.60; and a fee that only we have."""
    vendor = factories.make_provider("https://api.openai.com/v1", kind="openai", name="vendor")
    return factories.make_model(
        vendor, name="mini", upstream_model="gpt-4o-mini", prices={"input": "0.15", "output": "0.9", "requests": "5"}
    )


def run(*arguments: str) -> str:
    printed = io.StringIO()
    call_command("import_prices", *arguments, stdout=printed)
    return printed.getvalue()


def lines(printed: str, *words: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines() if all(word in line for word in words)]


def test_it_prints_what_differs_and_writes_nothing(mini: Model) -> None:
    own = factories.make_provider("http://127.0.0.1:9/v1", name="own")
    factories.make_model(own, name="house")
    printed = run()
    assert "mini, as openai/gpt-4o-mini, USD per million units:" in printed
    assert ["base", "output", "0.9", "0.6", "-33.3", "%"] in lines(printed, "output")
    assert not lines(printed, "base", "input"), "what agrees is not listed"
    assert ["service", "tier", "batch", "input", "-", "0.075", "new"] in lines(printed, "batch", "input")
    assert "storage_searches_kcount" in printed
    assert "house: no public price for where it is served." in printed
    assert f"genai-prices {VERSION}: 1 differ, 0 agree or were refused before, 1 unmatched." in printed
    assert not PriceProposal.objects.exists() and Price.objects.count() == 2


def test_a_huge_change_is_flagged(mini: Model) -> None:
    set_price(mini, read_rates({"input": "0.15", "output": "0.001"}))
    [flagged] = lines(run(), "base", "output")
    assert " ".join(flagged).endswith("suspicious: more than ten times")
    with pytest.raises(CommandError, match=r"more than ten times.*Nothing was changed"):
        run("--approve", "--model", "mini")
    assert not PriceProposal.objects.exists()
    assert "holds from now on" in run("--approve", "--confirm", "--model", "mini")


def test_it_can_be_narrowed(mini: Model) -> None:
    other = factories.make_provider("https://api.openai.com/v1", kind="openai", name="other")
    factories.make_model(other, name="four", upstream_model="gpt-4o", prices=None)
    assert "four, as openai/gpt-4o" in run("--provider", "other") and "mini" not in run("--provider", "other")
    assert "four" not in run("--model", "mini")
    with pytest.raises(CommandError, match="no such model in use: nix"):
        run("--model", "mini", "--model", "nix")


def test_the_same_is_proposed_once(mini: Model) -> None:
    assert "1 new proposals" in run("--apply")
    assert "0 new proposals" in run("--apply")
    proposal = PriceProposal.objects.get()
    assert (proposal.state, proposal.source, proposal.source_version) == (
        "open",
        "genai-prices openai/gpt-4o-mini",
        VERSION,
    )
    assert proposal.rates["output"] == 600_000 and proposal.rates["requests"] == 5_000_000, "our own fee stays"
    set_price(mini, read_rates({"input": "0.15", "output": "0.8"}))
    assert "1 new proposals" in run("--apply")
    proposal.refresh_from_db()
    assert proposal.state == "superseded"
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceProposal.objects.create(model=mini, rates={}, source="x", source_version="1", diff=[])


def test_approved_it_is_the_price_and_agrees(mini: Model) -> None:
    run("--apply")
    person = Operator.objects.create(username="ada", role=Role.OPERATOR)
    proposal = PriceProposal.objects.get()
    price = approve_proposal(proposal, by=person)
    assert price.created_by == person and price.rates["output"] == 600_000
    assert {tier.service_tier for tier in price.version.tiers} >= {"priority", "batch"}
    assert (proposal.state, proposal.decided_by, proposal.price) == ("approved", person, price)
    assert "0 differ, 1 agree" in run("--check")
    for decide in (approve_proposal, reject_proposal):
        with pytest.raises(PriceError, match="approved already"):
            decide(proposal, by=person)


def test_refused_figures_are_not_proposed_again_and_are_no_drift(mini: Model) -> None:
    with pytest.raises(CommandError, match="Prices differ"):
        run("--check")
    run("--apply")
    reject_proposal(PriceProposal.objects.get(), by=None)
    assert "mini, as openai/gpt-4o-mini (refused before)" in run("--check")
    assert "0 new proposals" in run("--apply")
    set_price(mini, read_rates({"input": "0.15", "output": "0.9", "requests": "6"}))
    assert "1 new proposals" in run("--apply"), "other figures"


def test_a_proposal_older_than_the_price_is_refused(mini: Model) -> None:
    [comparison] = compare()
    proposal = propose(comparison)
    assert proposal is not None
    set_price(mini, read_rates({"input": "0.2"}))
    with pytest.raises(PriceError, match="was changed after this was proposed"):
        approve_proposal(proposal, by=None)
    proposal.refresh_from_db()
    assert proposal.state == "open"


def test_named_ones_are_approved_on_the_command_line(mini: Model) -> None:
    with pytest.raises(CommandError, match="name each model"):
        run("--approve")
    run("--apply")
    assert "mini: the price holds from now on." in run("--approve", "--model", "mini")
    assert PriceProposal.objects.get().state == "approved"
    assert mini.prices.count() == 2


def test_own_tiers_stay_where_they_can_still_win(mini: Model) -> None:
    def tier(name: str, **conditions: object) -> object:
        given = {"above_input_tokens": None, "service_tier": "", "utc": "", **conditions}
        return make_tier(name, rates={"input": 1}, **given)  # type: ignore[arg-type]

    own = (tier("night", utc="16:30-00:30"), tier("own batch", service_tier="batch", utc="01:00-02:00"))
    set_price(mini, read_rates({"input": "0.15", "output": "0.9"}), tiers=own)  # type: ignore[arg-type]
    [comparison] = compare()
    names = [one.name for one in comparison.tiers]
    assert "night" in names and "own batch" not in names, "their batch applies whenever it does"


# In the admin ------------------------------------------------------------------------------------------------------
@pytest.fixture
def proposal(mini: Model) -> PriceProposal:
    run("--apply")
    return PriceProposal.objects.get()


def logged_in(role: str) -> Client:
    client = Client()
    client.force_login(Operator.objects.create(username=f"a-{role}", role=role, is_staff=True))
    return client


def decide(client: Client, proposal: PriceProposal, action: str) -> int:
    url = reverse(f"admin:billing_priceproposal_{action}", args=[proposal.pk])
    return client.post(url, {"confirmed": "yes", "reason": "as announced"}).status_code


def test_an_operator_sees_the_changes_and_decides(proposal: PriceProposal) -> None:
    client = logged_in(Role.OPERATOR)
    page = client.get(reverse("admin:billing_priceproposal_change", args=[proposal.pk])).content.decode()
    assert "-33.3 %" in page and "service tier batch" in page
    assert "output 0.9 → 0.6" in client.get(reverse("admin:billing_priceproposal_changelist")).content.decode()
    assert decide(client, proposal, "approve") == 302
    proposal.refresh_from_db()
    assert proposal.state == "approved" and proposal.decided_by is not None
    assert Price.objects.latest("valid_from").created_by == proposal.decided_by


def test_a_viewer_decides_nothing(proposal: PriceProposal) -> None:
    client = logged_in(Role.VIEWER)
    assert [decide(client, proposal, action) for action in ("approve", "reject")] == [403, 403]
    assert client.get(reverse("admin:billing_priceproposal_add")).status_code == 403
    proposal.refresh_from_db()
    assert proposal.state == "open" and Price.objects.count() == 1


# What a request costs ----------------------------------------------------------------------------------------------
def test_samples_are_priced_in_every_tier_they_may_fall_into() -> None:
    tiers = (
        make_tier("long", rates={"input": 4_000_000}, above_input_tokens=1000, service_tier="", utc=""),
        make_tier("flex", rates={"input": 500_000}, above_input_tokens=None, service_tier="flex", utc=""),
    )
    noon = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
    price = PriceVersion(1, noon, {"input": 1_000_000, "output": 2_000_000, "requests": 1_000_000_000}, tiers)
    before = PriceVersion(2, noon, {"input": 10_000_000})
    short, long = Sample("short", {"input": 1000, "output": 10}), Sample("long", {"input": 600, "cache_read": 401})
    assert [tuple(row) for row in sample_costs(price, now=before, samples=[short, long])] == [
        ("short", "base prices", "0.00202", "0.01"),
        ("short", "flex: service tier flex", "0.00152", "0.01"),
        ("long", "long: above 1,000 input tokens", "0.005004", "0.01001"),
    ]


def test_the_command_says_what_a_request_costs(mini: Model) -> None:
    def preview(*arguments: str) -> str:
        printed = io.StringIO()
        call_command("preview_price", *arguments, stdout=printed)
        return printed.getvalue()

    assert "0.000605 USD  base prices" in preview("mini", "--input", "1000", "--output", "500")
    for arguments, problem in (
        (["nix", "--input", "1"], "no model called 'nix'"),
        (["mini"], "Say what the request uses"),
        (["mini", "--input", "-1"], "less than nothing"),
    ):
        with pytest.raises(CommandError, match=problem):
            preview(*arguments)
    free = factories.make_model(name="unpriced", prices=None)
    with pytest.raises(CommandError, match="has no price yet"):
        preview(free.name, "--input", "1")
    set_price(mini, {"input": 1}, valid_from=timezone.now() + dt.timedelta(days=1))
    assert "0.000605 USD" in preview("mini", "--input", "1000", "--output", "500"), "the price that holds now"
