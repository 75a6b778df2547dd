"""The list of requests and the page of one: what was tried, what was passed over, and what it cost."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from billing.adjustments import adjust_charge
from billing.models import Attempt
from gateway import request_lists
from gateway.models import RequestRecord
from gateway.request_explained import candidates_of
from providers.models import Deployment
from tenants.audit import SYSTEM, Subject, record
from tenants.models import ApiKey, Operator
from tests.admin.seeding import add_request, add_usage, attempt_id_at
from tests.factories import make_key, make_model, make_provider, make_tenant, unique

REQUESTS = reverse("admin:gateway_requestrecord_changelist")


@pytest.fixture
def key(db: None) -> ApiKey:
    return make_key(make_tenant("acme"), "ci")[0]


@pytest.fixture
def deployment(db: None) -> Deployment:
    return make_model(make_provider("https://api.example.com/v1", name="vendor"), name="chatty").deployments.get()


def refused(key: ApiKey, **fields: Any) -> RequestRecord:
    """A request that nobody was asked for."""
    told = {
        "request_id": unique("refused"), "created_at": timezone.now(), "operation": "chat", "requested_model": "gone",
        "status": 404, "error_code": "model_not_found", "stream": False, "latency_ms": 3, "upstream_ms": 0,
        "skipped": [], "attempts": [],
    }  # fmt: skip
    return RequestRecord.objects.create(tenant=key.tenant, api_key=key, **{**told, **fields})


def many_requests(key: ApiKey) -> None:
    """Enough of all kinds for the planner to tell the indexes apart."""
    now = timezone.now()
    RequestRecord.objects.bulk_create(
        RequestRecord(
            tenant=key.tenant, api_key=key, request_id=f"many-{number}", created_at=now - dt.timedelta(seconds=number),
            operation="chat", requested_model="any", model_name=f"model-{number % 40}",
            provider_name=f"provider-{number % 20}", status=200 if number % 50 else 503,
            error_code="" if number % 50 else "overloaded", stream=False, latency_ms=3, upstream_ms=0, skipped=[],
            attempts=[], fallback=number % 100 == 1, cache="hit" if number % 100 == 2 else "",
        )
        for number in range(2000)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE gateway_requestrecord")


def listed(client: Client, **query: object) -> list[str]:
    """Request ids of the list, all its pages after one another."""
    response = client.get(REQUESTS, query)
    found: list[str] = []
    while True:
        assert response.status_code == 200, response.get("Location")
        changelist = response.context["cl"]
        found += [row.request_id for row in changelist.result_list]
        if changelist.older is None:
            return found
        response = client.get(REQUESTS + changelist.older)


def page_of(client: Client, request: RequestRecord) -> str:
    response = client.get(reverse("admin:gateway_requestrecord_change", args=[request.pk]))
    assert response.status_code == 200
    return response.content.decode()


def test_filters(viewer: Client, key: ApiKey, deployment: Deployment) -> None:
    ends = {
        "answered": (200, ""),
        "refused": (402, "budget_exceeded"),
        "failed": (503, "provider_unavailable"),
        "broke": (200, "provider_error"),
        "stopped": (499, "request_cancelled"),
    }
    made = {end: refused(key, status=status, error_code=code).request_id for end, (status, code) in ends.items()}
    left = refused(key, status=200, error_code="client_left").request_id
    stopped = refused(key, status=503, error_code="server_stopped").request_id
    old = refused(key, created_at=timezone.now() - dt.timedelta(days=3)).request_id
    elsewhere = refused(make_key(make_tenant())[0], status=200, error_code="").request_id
    for end, request_id in made.items():
        more = {"answered": {elsewhere}, "stopped": {left, stopped}}.get(end, set())
        assert set(listed(viewer, end=end)) == {request_id, *more}, end
    assert listed(viewer, error_code="budget_exceeded") == [made["refused"]]
    assert listed(viewer, tenant__id__exact=key.tenant.pk, end="answered") == [made["answered"]]
    assert old not in listed(viewer)
    found = viewer.get(REQUESTS, {"q": f" {old} "})
    assert found.status_code == 302, "an exact id of one request is its page, whenever it was"
    assert old in viewer.get(found["Location"]).content.decode()
    assert listed(viewer, q="nobody's") == [] and len(listed(viewer, end="nonsense")) == 8


def test_pages_follow_one_another(viewer: Client, key: ApiKey) -> None:
    now = timezone.now()
    made = [refused(key, created_at=now - dt.timedelta(seconds=number // 40)).request_id for number in range(120)]
    found = listed(viewer)
    assert len(found) == 120 and set(found) == set(made)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({}, "request_by_time"),
        ({"end": "failed"}, "request_failed_by_time"),
        ({"error_code": "x"}, "request_failed_by"),
        ({"model_name": "gone"}, "request_by_model"),
        ({"provider_name": "vendor"}, "request_by_provider"),
        ({"way": "fallback"}, "request_fallback_by_time"),
        ({"way": "cached"}, "request_cached_by_time"),
        ({"way": "nobody"}, "request_by_provider"),
        ({"api_key__id__exact": 1}, "request_by_key"),
        ({"tenant__id__exact": 1, "end": "failed"}, "request_failed_by_tenant"),
    ],
)
def test_a_list_comes_from_an_index(owner: Client, key: ApiKey, query: dict[str, Any], index: str) -> None:
    many_requests(key)
    with CaptureQueriesContext(connection) as queries:
        listed(owner, **query)
    asked = next(one["sql"] for one in queries if 'FROM "gateway_requestrecord"' in one["sql"])
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN {asked}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert index in plan and "Sort Key" not in plan, plan


def test_what_was_tried_passed_over_and_charged(viewer: Client, key: ApiKey, deployment: Deployment) -> None:
    charge = add_usage(key, deployment)
    failed = Attempt.objects.create(
        id=attempt_id_at(charge.created_at - dt.timedelta(seconds=1)), request_id=charge.request_id, tenant=key.tenant,
        api_key=key, deployment=deployment, operation="chat", model_name="sonnet", provider_name="backup",
        state="voided", failure="throttled", created_at=charge.started_at, ended_at=charge.started_at,
    )  # fmt: skip
    note = {"deployment": 1, "started_ms": 4, "elapsed_ms": 212}
    words = "<script>alert(1)</script> Slow down."
    first = {**note, "attempt": str(failed.pk), "model": "sonnet", "provider": "backup", "outcome": "throttled"}
    second = {**note, "attempt": str(charge.pk), "model": "chatty", "provider": "vendor", "outcome": "answered"}
    attempts = [{**first, "message": words}, {**second, "message": ""}]
    skipped = [["tiny <b>", "does not fit"]]
    page = page_of(viewer, add_request(charge, attempts=attempts, skipped=skipped, first_content_ms=300, stream=True))
    assert "throttled, 212 ms" in page and "answered, 212 ms" in page and "first content after 300 ms" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; Slow down." in page and "<script>alert" not in page
    assert "tiny &lt;b&gt;" in page and "does not fit" in page
    for name, row in (("attempt", failed.pk), ("attempt", charge.pk), ("usagerecord", charge.pk)):
        assert reverse(f"admin:billing_{name}_change", args=[row]) in page
    assert "0.00045" in page and "at 0.15 per million" in page and "base prices" in page


def test_an_adjusted_charge(viewer: Client, key: ApiKey, deployment: Deployment) -> None:
    charge = add_usage(key, deployment)
    adjust_charge(charge, 5, reason="too little", by=Operator.objects.create(username=unique("owner")))
    page = page_of(viewer, add_request(charge))
    assert "0.000450005" in page and "0.000000005 of it adjusted" in page and "USD 0.000450005 known" in page


def test_a_refusal_and_a_replay(viewer: Client, key: ApiKey) -> None:
    page = page_of(viewer, refused(key))
    assert "refused: 404 model_not_found" in page
    for words in ("No provider was asked.", "Nothing was charged.", "ended before routing had a candidate"):
        assert words in page
    page = page_of(viewer, refused(key, replay_of="req_first", status=200, error_code=""))
    assert f'href="{REQUESTS}?q=req_first"' in page


def test_an_attempt_whose_ledger_row_is_yet_to_come(viewer: Client, key: ApiKey) -> None:
    note = {"attempt": str(attempt_id_at(timezone.now())), "deployment": 1, "model": "m", "provider": "p",
            "outcome": "under way", "message": "", "started_ms": 1, "elapsed_ms": None}  # fmt: skip
    page = page_of(viewer, refused(key, status=200, error_code="client_left", attempts=[note]))
    assert "under way" in page and "not yet in the ledger" in page


def test_an_empty_list_says_what_to_do(viewer: Client) -> None:
    page = viewer.get(REQUESTS).content.decode()
    assert "No requests in this time" in page and "half a second after its answer" in page


def test_three_kinds_of_none(viewer: Client, key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    day = timezone.now() - dt.timedelta(days=9)
    refused(key, created_at=day)
    page = viewer.get(REQUESTS).content.decode()
    assert "No requests in this time" in page
    assert f"?created_at_from={day:%Y-%m-%d}&amp;created_at_to={day:%Y-%m-%d}" in page, "where there are some"

    refused(key, model_name="gone", provider_name="")
    page = viewer.get(REQUESTS, {"model_name": "gone", "end": "failed"}).content.decode()
    assert "Nothing matches" in page and "without end: failed" in page
    assert 'href="?model_name=gone"' in page and 'href="?end=failed"' in page, "each filter can be taken away"

    monkeypatch.setattr(request_lists, "LIST_TIMEOUT_MS", 50)
    monkeypatch.setattr(request_lists, "_price", lambda rows: connection.cursor().execute("SELECT pg_sleep(5)"))
    answer = viewer.get(REQUESTS)
    assert answer.status_code == 200 and "The list took too long" in answer.content.decode()


def test_a_filter_by_model_does_not_hide_what_failed(viewer: Client, key: ApiKey) -> None:
    failed = refused(key, model_name="gone", status=503, error_code="provider_unavailable").request_id
    fine = refused(key, model_name="gone", provider_name="vendor", status=200, error_code="").request_id
    other = refused(key, model_name="elsewhere").request_id
    assert set(listed(viewer, model_name="gone")) == {failed, fine}
    assert listed(viewer, model_name="gone", way="nobody") == [failed]
    assert set(listed(viewer, api_key__id__exact=key.pk)) == {failed, fine, other}
    assert listed(viewer, provider_name="vendor", end="answered") == [fine]


def test_the_list_tells_what_is_known_of_costs(viewer: Client, key: ApiKey, deployment: Deployment) -> None:
    for number, fields in enumerate(({}, {"usage_source": "local_count"}, {"price": None, "cost_nano_usd": 0})):
        add_request(add_usage(key, deployment, request_id=f"req-{number}", **fields))
    rows = {row.request_id: row.cost.as_text() for row in viewer.get(REQUESTS).context["cl"].result_list}
    assert rows == {"req-0": "0.00045 known", "req-1": "0.00045 estimated", "req-2": "1 unknown"}
    page = viewer.get(REQUESTS).content.decode()
    assert "1 unknown" in page, "what nobody knows is not nothing"


def test_every_candidate_has_a_verdict_and_the_price_adds_up(
    viewer: Client, key: ApiKey, deployment: Deployment
) -> None:
    charge = add_usage(key, deployment)
    note = {"model": "m", "provider": "p", "started_ms": 1, "elapsed_ms": 2, "message": ""}
    first = {**note, "attempt": str(attempt_id_at(charge.created_at)), "deployment": 7, "outcome": "timeout"}
    second = {**note, "attempt": str(charge.pk), "deployment": 8, "outcome": "answered"}
    decision = {
        "name": "fast", "strategy": "priority", "needs": ["chat"], "input_bytes": 90,
        "order": [[7, "slow", "a"], [8, "chatty", "vendor"], [9, "spare", "b"], [10, "open", "c"]],
    }  # fmt: skip
    request = add_request(
        charge, decision=decision, attempts=[first, second],
        skipped=[["retired-one", "the model is retired"], ["open at c", "circuit open for 3.1 s"]],
    )  # fmt: skip
    verdicts = {one.name: (one.verdict, one.words) for one in candidates_of(request)}
    assert verdicts == {
        "slow at a": ("tried", "timeout"),
        "chatty at vendor": ("chosen", "answered"),
        "spare at b": ("spared", "one before it answered"),
        "open at c": ("rejected", "circuit open for 3.1 s"),
        "retired-one": ("rejected", "the model is retired"),
    }
    page = page_of(viewer, request)
    assert "strategy of fast: priority" in page and "input: 90 bytes" in page
    assert "after 2 attempts" in page and "On no statement yet" in page
    table = page.split('data-charged="')[1]
    lines = [
        Decimal(figure) for figure in re.findall(r'<span class="figure">= ([\d.-]+)</span>', table.split("</table>")[0])
    ]
    assert sum(lines) == Decimal(table.split('"')[0]) == Decimal("0.00045")


def test_what_belongs_to_a_request_is_linked(viewer: Client, key: ApiKey, deployment: Deployment) -> None:
    charge = add_usage(key, deployment)
    request = add_request(charge, created_at=timezone.now())
    subject = Subject(type="request", id=request.request_id, tenant_id=key.tenant_id)
    record("request.completed", by=SYSTEM, about=subject, details={"status": 200})
    connection.check_constraints()
    page = page_of(viewer, request)
    assert "request.completed" in page and "status 200" in page
    assert "None was kept while it ran." in page and "No hook was asked." in page
