"""A provider's usage export beside the ledger: what drifts, and what is wrong with a file."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from billing.errors import ReconciliationError
from billing.models import ReconciliationRun
from billing.reconciliation.export import MOST_BYTES, read_file
from providers.models import Provider
from tests.billing.statement_seeding import post
from tests.factories import make_model, make_provider, make_tenant

ADD = reverse("admin:billing_reconciliationrun_add")
HEADING = "day,model,tokens,cost\n"
MORNING = dt.datetime(2024, 1, 10, 9, tzinfo=dt.UTC)


@pytest.fixture
def provider(db: None) -> Provider:
    provider = make_provider("https://api.example.com/v1", name="vendor")
    make_model(provider, upstream_model="deployed")
    return provider


def upload(client: Client, provider: Provider, text: str | bytes) -> Any:
    content = text.encode() if isinstance(text, str) else text
    file = SimpleUploadedFile("export.csv", content, content_type="text/csv")
    return client.post(ADD, {"provider": provider.pk, "file": file})


def test_drift_is_shown_by_day_and_model(operator: Client, provider: Provider) -> None:
    tenant = make_tenant()
    ours = {"provider_name": "vendor", "cost_nano_usd": 1_000_000_000, "input_tokens": 900, "output_tokens": 100}
    post(tenant, MORNING, upstream_model="agreed", **ours)
    post(tenant, MORNING, upstream_model="drifts", **ours)
    post(tenant, MORNING, upstream_model="only-ours", **ours)
    post(tenant, MORNING, upstream_model="agreed", **{**ours, "provider_name": "another"})
    post(tenant, MORNING + dt.timedelta(days=1), upstream_model="later", **ours)
    text = (
        "Date, Model ,Input Tokens,Output Tokens,Cost USD,project\n"
        "2024-01-10,agreed,400,50,0.25,a\n2024-01-10,agreed,500,50,0.75,b\n"
        "2024-01-10T00:00:00Z,drifts,900,200,1.5000000004,a\n"
        "2024-01-10,never-heard-of,1,0,1e-3,a\n\n2024-01-10,deployed,0,0,0,a\n"
    )
    assert upload(operator, provider, text).status_code == 302
    run = ReconciliationRun.objects.get()
    assert (run.lines, run.created_by.username, run.file_name) == (5, "an-operator", "export.csv")
    assert (run.their_cost_nano_usd, run.our_cost_nano_usd) == (2_501_000_000, 3_000_000_000)
    rows = {row.model: row for row in run.rows.all()}
    assert {name: (row.their_tokens, row.our_tokens, row.known) for name, row in rows.items()} == {
        "agreed": (1000, 1000, True),
        "drifts": (1100, 1000, True),
        "never-heard-of": (1, 0, False),
        "deployed": (0, 0, True),
        "only-ours": (0, 1000, True),
    }
    page = operator.get(reverse("admin:billing_reconciliationrun_change", args=[run.pk])).content.decode()
    for said in (
        "unknown here", "+0.5 (+50.00 %)", "+0.001 (none here)", "-1 (-100.00 %)", 'class="stands-out"', "agrees",
        "<svg",
    ):  # fmt: skip
        assert said in page, said
    assert "-0.499 (-16.63 %)" in operator.get(reverse("admin:billing_reconciliationrun_changelist")).content.decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Line 1: give a column tokens"),
        ("day;model;tokens;cost\n2024-01-10;m;1;1\n", "Line 1: the columns are separated by semicolons"),
        ("day\tmodel\ttokens\tcost\n", "separated by tabs"),
        (HEADING, "no line below"),
        ("day,model,cost\n", "Line 1: give a column tokens"),
        ("day,model,tokens\n", "no column cost"),
        ("day,date,model,tokens,cost\n", "the column day is there 2 times"),
        (
            HEADING + "2024-01-10,m,1,1\n2024-01-10,m,1,1,5\n",
            "Line 3: 5 cells, where the heading has 4. Is a decimal comma",
        ),
        (HEADING + '2024-01-10,m,1,"1,5"\n', "Line 2, column cost: '1,5' has a comma"),
        (HEADING + '2024-01-10,m,"1,000",1\n', "Line 2, column tokens: '1,000' has a comma"),
        (HEADING + "2024-01-10,m,-1,1\n", "Line 2, column tokens: '-1' is negative"),
        (HEADING + "2024-01-10,m,1.5,1\n", "column tokens: '1.5' is not a whole number"),
        (HEADING + "2024-01-10,m,1,-0.01\n", "Line 2, column cost: '-0.01' is negative"),
        (HEADING + "2024-01-10,m,1,NaN\n", "column cost: 'NaN' is not an amount"),
        (HEADING + "2024-01-10,m,1,Infinity\n", "is not an amount"),
        (HEADING + "2024-01-10,m,1,\n", "column cost: '' is not an amount"),
        (HEADING + "2024-01-10,m,1,1e30\n", "is beyond"),
        (HEADING + f"2024-01-10,m,{'9' * 5000},1\n", "is not a whole number"),
        (HEADING + "2024-13-10,m,1,1\n", "Line 2, column day: '2024-13-10' is no day"),
        (HEADING + "10.01.2024,m,1,1\n", "is no day"),
        (HEADING + "0001-01-01,m,1,1\n", "is no day"),
        (HEADING + "2024-01-10,,1,1\n", "Line 2, column model"),
        (HEADING + "2024-01-10,m,1,1\n2024-06-10,m,1,1\n", "153 days"),
        (HEADING + '2024-01-10,"m,1,1\n', "this is not CSV"),
        (HEADING + "2024-01-10,m,1000000000000000,1\n" * 1001, "what cannot be"),
    ],
)
def test_a_bad_file_is_refused_naming_the_place(text: str, why: str) -> None:
    with pytest.raises(ReconciliationError) as refusal:
        read_file("export.csv", text.encode())
    assert why in str(refusal.value)


def test_encodings_and_sizes() -> None:
    row = HEADING + "2024-01-10,m,1,0.1\n"
    assert read_file("x.csv", row.encode("utf-8-sig")).lines == 1
    with pytest.raises(ReconciliationError, match="not UTF-8 text"):
        read_file("x.csv", row.encode("utf-16"))
    with pytest.raises(ReconciliationError, match="Line 2: this is not UTF-8"):
        read_file("x.csv", HEADING.encode() + b"2024-01-10,m\xe4,1,1\n")
    with pytest.raises(ReconciliationError, match="larger than 10 MB"):
        read_file("x.csv", b"x" * (MOST_BYTES + 1))


def test_a_refusal_is_at_the_field_and_keeps_nothing(operator: Client, viewer: Client, provider: Provider) -> None:
    response = upload(operator, provider, HEADING + "2024-01-10,m,x,1\n")
    assert "Line 2, column tokens" in response.context["adminform"].form.errors["file"][0]
    assert "required" in str(operator.post(ADD, {"provider": provider.pk}).context["adminform"].form.errors["file"])
    assert viewer.post(ADD, {"provider": provider.pk}).status_code == 403
    assert not ReconciliationRun.objects.exists()


def test_an_empty_list_says_what_to_upload(viewer: Client, db: None) -> None:
    assert "usage export" in viewer.get(reverse("admin:billing_reconciliationrun_changelist")).content.decode()
