"""Prices are typed as people quote them, checked, previewed, and only ever added."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import Price
from providers.models import Model
from tests.factories import make_model, make_provider


@pytest.fixture
def model(db: None) -> Model:
    return make_model(prices=None, name="priced")


def add_price(client: Client, model: Model, **fields: str) -> Any:
    return client.post(reverse("admin:billing_price_add"), {"model": model.pk, **fields})


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def test_a_price_is_typed_in_usd_per_million(operator: Client, model: Model) -> None:
    response = add_price(operator, model, input="0.15", output=" 0.6 ", cache_read="0.075")
    assert response.status_code == 302
    price = Price.objects.get()
    assert price.rates == {"input": 150_000, "output": 600_000, "cache_read": 75_000}
    assert price.created_by.username == "an-operator"
    assert abs(price.valid_from - timezone.now()) < dt.timedelta(minutes=1)
    messages = [str(message) for message in get_messages(response.wsgi_request)]
    assert "1,000 input + 500 output tokens of priced cost 0.00045 USD." in messages


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("input", "-1", "must be zero or more"),
        ("input", "NaN", "must be zero or more"),
        ("output", "inf", "must be zero or more"),
        ("output", "150000", "beyond 100000"),
        ("images", "0.0000001", "finer than"),
        ("seconds", "0,15", "is not a price"),
        ("cache_read", "ten", "is not a price"),
    ],
)
def test_a_senseless_price_is_explained_at_its_field(
    field: str, text: str, problem: str, operator: Client, model: Model
) -> None:
    response = add_price(operator, model, **{"input": "1", field: text})
    assert problem in errors(response)[field][0]
    assert not Price.objects.exists()


def test_a_price_needs_a_figure(operator: Client, model: Model) -> None:
    assert "at least one price" in errors(add_price(operator, model))["__all__"][0]
    assert add_price(operator, model, input="0").status_code == 302


def test_a_price_begins_now_or_later(operator: Client, model: Model) -> None:
    past = add_price(operator, model, input="1", valid_from_0="2020-01-01", valid_from_1="00:00")
    assert "past" in errors(past)["valid_from"][0]
    assert add_price(operator, model, input="1", valid_from_0="2100-01-01", valid_from_1="00:00").status_code == 302
    assert Price.objects.get().valid_from == dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def test_the_same_prices_again_are_no_new_version(operator: Client, model: Model) -> None:
    assert add_price(operator, model, input="1").status_code == 302
    assert "hold then already" in errors(add_price(operator, model, input="1.0"))["__all__"][0]
    assert add_price(operator, model, input="2").status_code == 302
    assert Price.objects.count() == 2


def test_prices_are_shown_as_quoted_and_never_edited(owner: Client, model: Model) -> None:
    add_price(owner, model, input="1.25", output="10", audio_input="32")
    price = Price.objects.get()
    page = reverse("admin:billing_price_change", args=[price.pk])
    for url in (page, reverse("admin:billing_price_changelist")):
        html = owner.get(url).content.decode()
        assert "1.25" in html
        assert "0.00625" in html, "1,000 input and 500 output tokens"
        assert "1250000" not in html
    assert owner.post(page, {"model": model.pk, "input": "9"}).status_code == 403
    assert owner.post(reverse("admin:billing_price_delete", args=[price.pk]), {"post": "yes"}).status_code == 403


def preview(client: Client, **fields: object) -> str:
    return client.get(reverse("admin:billing_price_preview"), fields).content.decode()


def test_the_preview_says_what_requests_will_cost(operator: Client, model: Model) -> None:
    assert "<strong>0.00045</strong>" in preview(operator, model=model.pk, input="0.15", output="0.6")
    add_price(operator, model, input="0.15", output="0.6")
    compared = preview(operator, model=model.pk, input="150", output="600")
    assert "<strong>0.45</strong>" in compared and ">0.00045</span>" in compared
    assert "<strong>0</strong> (free)" in preview(operator, input="0")
    assert "at least one price" in preview(operator)
    assert "beyond 100000" in preview(operator, input="1000000", model="x'--")
    assert "&lt;script&gt;" in preview(operator, input="<script>")
    assert "not a list of tiers" in preview(operator, input="1", quoted_tiers="[")
    assert Price.objects.count() == 1


TIERS = """\
- {name: long, above_input_tokens: 200000, prices: {input: 2.50, output: 15}}
- {name: off-peak, utc: 16:30-00:30, prices: {input: 0.60}}
"""


def test_the_preview_shows_the_tiers_a_request_of_that_size_may_fall_into(operator: Client, model: Model) -> None:
    html = preview(operator, model=model.pk, input="1.25", output="10", quoted_tiers=TIERS)
    rows = [row for row in html.split("<tr>") if "300,000 in" in row]
    assert len(rows) == 1 and "long: above 200,000 input tokens" in rows[0] and "<strong>0.78</strong>" in rows[0]
    small = [row for row in html.split("<tr>") if "1,000 in" in row]
    assert ["off-peak" in row for row in small] == [False, True]


def test_tiers_are_typed_as_in_a_file(operator: Client, model: Model) -> None:
    assert add_price(operator, model, input="1.25", output="10", quoted_tiers=TIERS).status_code == 302
    price = Price.objects.get()
    assert [(tier.name, tier.condition(), tier.rates) for tier in price.version.tiers] == [
        ("long", "above 200,000 input tokens", {"input": 2_500_000, "output": 15_000_000}),
        ("off-peak", "16:30-00:30 UTC", {"input": 600_000}),
    ]
    page = operator.get(reverse("admin:billing_price_change", args=[price.pk])).content.decode()
    assert "above 200,000 input tokens" in page and "input 2.5, output 15" in page
    assert "long, off-peak" in operator.get(reverse("admin:billing_price_changelist")).content.decode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("long: 1", "Write a list of tiers"),
        ("- {name: [", "not a list of tiers"),
        ("[" * 3000, "not a list of tiers"),
        ("- {name: a, prices: {input: 1}, utc: '16:30-00:30', above: 1}", "&#x27;above&#x27; is not known in a tier"),
        ("- {name: a, utc: '16:30-00:30'}", "A tier is written like this"),
        ("- {name: a, utc: '16:30-00:30', prices: {input: [1]}}", "A tier is written like this"),
        ("- {name: a, utc: noon, prices: {input: 1}}", "is not a time of day"),
        ("- {name: a, above_input_tokens: 1e5, prices: {input: 1}}", "is a number of tokens"),
        ("- {name: a, service_tier: flex, prices: {tokens: 1}}", "there is no such unit"),
        ("- {name: a, service_tier: flex, prices: {input: .nan}}", "is not a price"),
        ("- {name: a, prices: {input: 1}}", "give a condition"),
        ("x" * 9000, "at most 8000 characters"),
    ],
)
def test_senseless_tiers_are_explained(operator: Client, model: Model, text: str, problem: str) -> None:
    response = add_price(operator, model, input="1", quoted_tiers=text)
    assert response.status_code == 200
    assert problem in response.content.decode()
    assert not Price.objects.exists()


def test_a_figure_in_another_unit_asks_to_be_confirmed(operator: Client, model: Model) -> None:
    add_price(operator, model, input="2.5", output="10")
    asked = errors(add_price(operator, model, input="0.0025", output="10"))
    assert list(asked) == ["input"]
    assert "0.0025 looks like a price per thousand: did you mean 2.5 per million?" in asked["input"][0]
    assert Price.objects.count() == 1
    assert add_price(operator, model, input="0.0025", output="10", confirmed="on").status_code == 302
    assert Price.objects.count() == 2
    assert add_price(operator, model, input="0.003", output="10").status_code == 302, "near what holds now"


def test_a_first_price_is_held_against_the_public_one(operator: Client, db: None) -> None:
    vendor = make_provider("https://api.openai.com/v1", kind="openai", name="vendor")
    known = make_model(vendor, prices=None, name="known", upstream_model="gpt-4o-mini")
    asked = errors(add_price(operator, known, input="150"))
    assert "did you mean 0.15 per million? The public price of openai/gpt-4o-mini is 0.15." in asked["input"][0]
    assert add_price(operator, known, input="0.2").status_code == 302
