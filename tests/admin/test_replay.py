"""A request tried against another routing: what that would have chosen and cost, and what it cannot know."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway.desk.replay import Draft, Replayed, replayed
from gateway.models import RequestRecord
from gateway.request_records import story_of
from providers.models import ModelGroup
from providers.services import move_model
from tests.admin.seeding import add_request, add_usage
from tests.factories import approve, make_group, make_key, make_model, make_provider, make_tenant

DEAR = {"input": "3", "output": "15"}
SIZES = {"needs": ["chat"], "input_bytes": 400, "name": "chatty"}


@pytest.fixture
def request_row(db: None) -> RequestRecord:
    """One of 1,000 tokens in and 500 out, charged 0.00045."""
    key = make_key(make_tenant("acme"), "ci")[0]
    vendor = make_provider("https://api.example.com/v1", name="vendor")
    cheap = make_model(vendor, name="chatty")
    make_model(make_provider("https://api.example.com/v1", name="other"), name="dear", prices=DEAR)
    make_model(vendor, name="free", prices=None)
    approve(key.tenant, cheap)
    return add_request(add_usage(key, cheap.deployments.get()), decision=SIZES, created_at=timezone.now())


def against(row: RequestRecord, **draft: Any) -> Replayed:
    return replayed(row, story_of(row), draft=Draft(**draft))


def test_another_model(request_row: RequestRecord) -> None:
    units = story_of(request_row).attempts[0].charge.units  # type: ignore[union-attr]
    found = against(request_row, name="dear")
    (choice,) = found.choices
    cost = (units["input"] * 3 + units["output"] * 15) / 1_000_000
    assert (choice.name, choice.share) == ("dear at other", 100)
    assert float(choice.cost) == pytest.approx(cost) and choice.difference.startswith("+")
    assert any("dear is not approved for acme" in note for note in found.notes)
    assert any("nobody was asked" in note for note in found.notes)
    (same,) = against(request_row, name="chatty").choices
    assert (same.cost, same.difference) == ("0.00045", "the same")
    (unpriced,) = against(request_row, name="free").choices
    assert unpriced.cost == "not known: it had no price then" and unpriced.difference == ""


def test_a_draft_keeps_nothing(request_row: RequestRecord) -> None:
    found = against(request_row, members=("dear", "chatty"))
    assert [choice.name for choice in found.choices] == ["dear at other", "chatty at vendor"]
    found = against(request_row, members=("dear", "chatty"), strategy="lowest_cost")
    assert [choice.share for choice in found.choices] == [100, 0] and found.choices[0].name == "chatty at vendor"
    found = against(request_row, members=("dear", "chatty"), strategy="weighted")
    assert 0 < found.choices[1].share < found.choices[0].share < 100 or found.choices[0].share == 50
    found = against(request_row, members=("dear", "chatty"), strategy="lowest_latency")
    assert "is not kept" in found.notes[0]
    assert not ModelGroup.objects.exists()


def test_who_would_have_been_left_out(request_row: RequestRecord) -> None:
    blind = make_model(make_provider("https://api.example.com/v1", name="third"), name="blind", capabilities=("chat",))
    group = make_group(blind, *[request_row_model(request_row)], name="seeing")
    request_row.decision = {**SIZES, "needs": ["chat", "vision"]}
    found = against(request_row, name=group.name)
    assert [choice.name for choice in found.choices] == ["chatty at vendor"]
    assert found.rejected == [("blind", "cannot do vision")]
    assert "cannot do what this request needs: vision" in against(request_row, name="blind").refusal
    move_model(blind, "retired", by=None)
    assert against(request_row, name="blind").refusal


def request_row_model(row: RequestRecord) -> Any:
    charge = story_of(row).attempts[0].charge
    assert charge is not None
    return charge.price.model  # type: ignore[union-attr]


def test_its_page(operator: Client, viewer: Client, request_row: RequestRecord) -> None:
    url = reverse("admin:gateway_requestrecord_against", args=[request_row.pk])
    page = reverse("admin:gateway_requestrecord_change", args=[request_row.pk])
    assert url in operator.get(page).content.decode() and url not in viewer.get(page).content.decode()
    assert viewer.get(url).status_code == viewer.post(url, {"name": "dear"}).status_code == 403
    answer = operator.post(url, {"name": "dear"}).content.decode()
    assert "dear at other" in answer and "What this cannot know" in answer and "100 %" in answer
    missing = reverse("admin:gateway_requestrecord_against", args=[request_row.pk + 99])
    assert operator.post(missing, {"name": "dear"}).status_code == 404


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "Give one of the two"),
        ({"name": "dear", "members": "dear"}, "Give one of the two"),
        ({"name": "<b>"}, "There is no model or group called &#x27;&lt;b&gt;&#x27;."),
        ({"members": "dear, nobody"}, "There is no model called &#x27;nobody&#x27;."),
        ({"members": "dear", "strategy": "best"}, "Select a valid choice. best is not one"),
        ({"name": "x" * 300}, "at most 200 characters"),
        ({"name": "a\0b"}, "Null characters are not allowed"),
    ],
)
def test_nonsense(operator: Client, request_row: RequestRecord, said: dict[str, str], words: str) -> None:
    url = reverse("admin:gateway_requestrecord_against", args=[request_row.pk])
    answer = operator.post(url, said)
    assert answer.status_code == 200 and words in answer.content.decode()
