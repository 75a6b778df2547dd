"""The usage explorer: what its address asks for, who may ask, what files hold, and what it never reads."""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from openpyxl import load_workbook

from billing.analytics.roll_up import roll_up
from billing.models import AnalyticsDay, AnalyticsHour, AnalyticsProgress
from gateway.desk import usage_explorer
from gateway.models import SavedView
from providers.models import AgentType
from tenants.models import ApiKey, Operator, Role, Tenant
from tests.admin.conftest import LogIn
from tests.admin.seeding import add_usage
from tests.factories import make_key, make_model, make_provider, make_tenant

PAGE = "/admin/usage/"
RAW = ("billing_usagerecord", "billing_attempt", "billing_entry", "billing_adjustment", "gateway_requestrecord")


@pytest.fixture
def used(db: None) -> ApiKey:
    """Two tenants' usage of some hours ago, summed: acme's of two models and a user, and globex's of one."""
    AgentType.objects.create(name="coder", target="small")
    small, large = (make_model(make_provider("https://a.example.com/v1"), name=name) for name in ("small", "large"))
    free = make_model(make_provider("https://a.example.com/v1"), name="free", prices=None)
    acme, globex = (make_key(make_tenant(name), "main")[0] for name in ("acme", "globex"))
    moment = timezone.now() - dt.timedelta(hours=1)
    for model, key, fields in (
        (small, acme, {"user": "=ada", "agent_type": "coder"}),
        (small, acme, {"ending": "failed", "latency_ms": 90_000}),
        (large, acme, {"usage_source": "local_count"}),
        (large, acme, {"usage_source": "cache", "cost_nano_usd": 0}),
        (free, acme, {}),
        (small, globex, {}),
    ):
        add_usage(key, model.deployments.get(), created_at=moment, **fields)
    roll_up(until=timezone.now())
    return acme


def table(response: Any) -> dict[str, list[str]]:
    return {row.name: row.cells for row in response.context["answer"].rows}


def test_the_default_question_is_tenants_of_seven_days(viewer: Client, used: ApiKey) -> None:
    response = viewer.get(PAGE)
    assert response.status_code == 200
    assert [(name, cells[0]) for name, cells in table(response).items()] == [("acme", "5"), ("globex", "1")]
    requests, known, estimated, unknown, *_ = table(response)["acme"]
    assert (requests, known, estimated, unknown) == ("5", "0.0009", "0.00045", "1")
    assert response.context["answer"].total.cells[0] == "6"
    html = response.content.decode()
    assert "Data through 20" in html
    assert "Requests by tenant: 6 requests in all. acme 5 requests; globex 1 requests" in html


@pytest.mark.parametrize(
    ("group", "calls"),
    [
        ("project", {"no project": "5"}),
        ("user", {"no user": "4", "=ada": "1"}),
        ("key", {"acme / main (#{pk})": "5"}),
        ("model", {"small": "2", "large": "2", "free": "1"}),
        ("agent_type", {"no agent type": "4", "coder": "1"}),
    ],
)
def test_usage_is_grouped_by_what_is_asked(group: str, calls: dict[str, str], viewer: Client, used: ApiKey) -> None:
    response = viewer.get(PAGE, {"tenant": "acme", "group": group, "per": ""})
    expected = {name.format(pk=used.pk): figure for name, figure in calls.items()}
    assert {name: cells[0] for name, cells in table(response).items()} == expected


@pytest.mark.parametrize("measure", usage_explorer.UsageForm.base_fields["measure"].choices)
@pytest.mark.parametrize("per", ["hour", "day"])
def test_every_measure_is_drawn(measure: tuple[str, str], per: str, viewer: Client, used: ApiKey) -> None:
    html = viewer.get(PAGE, {"group": "model", "tenant": "acme", "measure": measure[0], "per": per}).content.decode()
    assert f"{measure[1]} by model" in html


def test_errors_latency_and_cache_are_measured(viewer: Client, used: ApiKey) -> None:
    response = viewer.get(PAGE, {"group": "model", "tenant": "acme"})
    cells = {name: dict(zip(response.context["columns"], row, strict=True)) for name, row in table(response).items()}
    assert (cells["small"]["Errors"], cells["small"]["Cache hits"]) == ("1", "0")
    assert (cells["large"]["Errors"], cells["large"]["Cache hits"]) == ("0", "1")
    p50, p95 = (int(cells["small"][f"Latency {name}, ms"].replace(",", "")) for name in ("p50", "p95"))
    assert 750 <= p50 <= 1_000, "one of two took 900 ms"
    assert 60_000 <= p95 <= 120_000


def test_a_tenants_days_begin_at_its_own_midnight(viewer: Client, db: None) -> None:
    key, _ = make_key(make_tenant("mumbai", timezone="Asia/Kolkata"))
    deployment = make_model(make_provider("https://a.example.com/v1"), name="m").deployments.get()
    for minute in (29, 31):
        add_usage(key, deployment, created_at=dt.datetime(2026, 11, 10, 18, minute, tzinfo=dt.UTC))
    roll_up(until=timezone.now())
    for first, last, calls in (("2026-11-10", "2026-11-10", "1"), ("2026-11-11", "2026-11-11", "1")):
        response = viewer.get(PAGE, {"tenant": "mumbai", "first": first, "last": last})
        assert table(response)["mumbai"][0] == calls
        assert "days of Asia/Kolkata" in response.content.decode()
    assert table(viewer.get(PAGE, {"first": "2026-11-10", "last": "2026-11-10"}))["mumbai"][0] == "2", "days of UTC"


NONSENSE = [
    ({"first": "yesterday"}, "first", "Enter a valid date"),
    ({"first": "2026-01-01", "last": "2026-11-20"}, "first", "90 days at most"),
    ({"first": "2026-11-20", "last": "2026-11-01"}, "last", "before the first day"),
    ({"last": "9999-12-31"}, "last", "no usage of that year"),
    ({"first": "9999-12-31"}, "first", "no usage of that year"),
    ({"group": "colour"}, "group", "Select a valid choice"),
    ({"measure": "joy"}, "measure", "Select a valid choice"),
    ({"per": "second"}, "per", "Select a valid choice"),
    (
        {"per": "hour", "first": "2026-10-01", "last": "2026-11-01", "tenant": "acme"},
        "per",
        "by the hour for 3 days, or 14",
    ),
    ({"per": "hour", "first": "2026-11-01", "last": "2026-11-05"}, "per", "by the hour for 3 days, or 14"),
    ({"tenant": "nobody"}, "tenant", "No tenant is called"),
    ({"tenant": "a\0b"}, "tenant", "Null characters"),
    ({"key": "x"}, "key", "Enter a whole number"),
    ({"key": "99999999999999999999"}, "key", "less than or equal"),
    ({"project": "987654"}, "project", "no such project"),
    ({"group": "user"}, "tenant", "users are a tenant"),
    ({"group": "user", "tenant": "acme", "model": "small"}, "model", "leave this empty"),
    ({"group": "model", "tenant": "acme", "user": "u"}, "group", "group by user or tenant"),
    ({"group": "user", "tenant": "acme", "per": "hour"}, "per", "by the day"),
]


@pytest.mark.parametrize(("query", "field", "said"), NONSENSE)
def test_nonsense_is_refused_by_the_name_of_its_field(
    query: dict[str, str], field: str, said: str, viewer: Client, used: ApiKey
) -> None:
    response = viewer.get(PAGE, query)
    assert response.status_code == 400
    assert said in " ".join(response.context["form"].errors[field])
    assert said in response.content.decode()
    refused = viewer.get(reverse("admin:desk_usage_file", args=["csv"]), query)
    assert refused.status_code == 400
    assert f"{field}: " in refused.content.decode()


def test_a_file_holds_what_the_page_shows(viewer: Client, used: ApiKey) -> None:
    query = {"tenant": "acme", "group": "user"}
    shown = viewer.get(PAGE, query)
    address = reverse("admin:desk_usage_file", args=["csv"])
    assert f"{address}?{shown.context['address']}".replace("&", "&amp;") in shown.content.decode()
    response = viewer.get(address, query)
    assert "attachment" in response["Content-Disposition"]
    rows = list(csv.reader(io.StringIO(response.content.decode())))
    assert rows[0][:2] == ["User", "Requests"]
    assert [row[:2] for row in rows[1:4]] == [["no user", "4"], ["'=ada", "1"], ["All", "5"]]
    assert ["Tenant", "acme"] in rows
    book = load_workbook(io.BytesIO(viewer.get(reverse("admin:desk_usage_file", args=["xlsx"]), query).content))
    values = [[cell.value for cell in row[:3]] for row in book["Usage"].iter_rows(min_row=1, max_row=4)]
    assert values[1][:2] == ["no user", 4]
    assert values[2][:2] == ["=ada", 1]
    assert book["Usage"]["A3"].data_type == "s", "text, not a formula"


def test_more_rows_than_a_file_may_have_are_refused(
    viewer: Client, used: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_explorer, "MOST_EXPORTED", 1)
    response = viewer.get(reverse("admin:desk_usage_file", args=["csv"]))
    assert response.status_code == 400
    assert "more than 1 rows" in response.content.decode()


def test_each_row_leads_to_its_calls(viewer: Client, used: ApiKey) -> None:
    for query in ({"group": "tenant"}, {"group": "model", "tenant": "acme"}, {"group": "provider", "model": "small"}):
        for row in viewer.get(PAGE, query).context["answer"].rows:
            listed = viewer.get(row.requests)
            assert listed.status_code == 200, row.requests
            parameters = parse_qs(urlsplit(row.requests).query)
            assert parameters["created_at_from"] and parameters["created_at_to"]
            narrower = viewer.get(PAGE + row.link)
            assert narrower.context["answer"].total.cells[0] == row.cells[0]
    lists = {urlsplit(row.requests).path for row in viewer.get(PAGE).context["answer"].rows}
    assert lists == {reverse("admin:gateway_requestrecord_changelist")}
    assert not any(row.requests for row in viewer.get(PAGE, {"group": "agent_type"}).context["answer"].rows)


def test_nothing_reads_the_ledger_and_the_number_of_queries_is_fixed(viewer: Client, used: ApiKey) -> None:
    def ask() -> int:
        count = 0
        for query in (
            {},
            {"tenant": "acme", "group": "key"},
            {"tenant": "acme", "group": "user"},
            {"per": "hour", "tenant": "acme"},
        ):
            for url in (PAGE, reverse("admin:desk_usage_file", args=["csv"])):
                with CaptureQueriesContext(connection) as queries:
                    assert viewer.get(url, query).status_code == 200
                asked = [entry["sql"] for entry in queries]
                assert not [sql for sql in asked if any(table in sql for table in RAW)], asked
                assert not [sql for sql in asked if "OFFSET" in sql]
                count += len(asked)
        return count

    ask()
    few = ask()
    deployment = make_model(make_provider("https://a.example.com/v1")).deployments.get()
    for _ in range(20):
        add_usage(make_key(make_tenant())[0], deployment)
    roll_up(until=timezone.now())
    assert ask() == few


def test_an_outsider_is_refused_and_somebody_limited_sees_their_tenants_only(
    log_in: LogIn, used: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = SavedView.objects.create(operator=Operator.objects.create(username="x"), name="v", query="tenant=globex")
    places = {name: reverse(f"admin:{name}", args=arguments) for name, arguments in (
        ("desk_usage", ()), ("desk_usage_file", ("csv",)), ("desk_usage_view", (view.pk,)),
    )}  # fmt: skip
    nobody = log_in("")
    for url in places.values():
        assert "/admin/login/" in nobody.get(url)["Location"]
    for name, arguments in (("desk_usage_save", ()), ("desk_usage_delete", (view.pk,))):
        assert "/admin/login/" in nobody.post(reverse(f"admin:{name}", args=arguments))["Location"]

    theirs = Tenant.objects.filter(name="acme")
    tenants = type(admin.site.get_model_admin(Tenant))
    monkeypatch.setattr(tenants, "get_queryset", lambda self, request: theirs)
    member = log_in("another")
    page = member.get(places["desk_usage"])
    assert list(table(page)) == ["acme"]
    assert page.context["answer"].total.cells[0] == "5"
    for word in ("globex", '<option value="large">'):
        assert word not in page.content.decode()
    assert "globex" not in member.get(places["desk_usage_file"], {"group": "key"}).content.decode()
    other_key = ApiKey.objects.get(tenant__name="globex")
    for query in ({"tenant": "globex"}, {"key": other_key.pk}, {"tenant": "acme", "key": other_key.pk}):
        for url in (places["desk_usage"], places["desk_usage_file"]):
            assert member.get(url, query).status_code == 400, query
    assert member.get(places["desk_usage_view"], follow=True).status_code == 400

    monkeypatch.setattr(Operator, "has_perm", lambda self, *_: False)
    for url in places.values():
        assert log_in(Role.VIEWER).get(url).status_code == 403
    assert log_in(Role.VIEWER).post(reverse("admin:desk_usage_save"), {"name": "n"}).status_code == 403
    assert SavedView.objects.count() == 1


def test_views_are_saved_shared_and_deleted_by_their_owner(log_in: LogIn, used: ApiKey) -> None:
    viewer, operator = log_in(Role.VIEWER), log_in(Role.OPERATOR)
    save = reverse("admin:desk_usage_save")
    for group in ("model", "key"):
        viewer.post(save, {"name": "Acme", "query": f"tenant=acme&group={group}&junk=1"})
    view = SavedView.objects.get()
    assert view.query == "group=key&tenant=acme"
    address = reverse("admin:desk_usage_view", args=[view.pk])
    assert address in viewer.get(PAGE).content.decode()
    assert address not in operator.get(PAGE).content.decode()
    assert operator.get(address)["Location"] == f"{PAGE}?group=key&tenant=acme"
    delete = reverse("admin:desk_usage_delete", args=[view.pk])
    assert operator.post(delete).status_code == 404
    assert viewer.get(delete).status_code == viewer.get(save).status_code == 405
    assert viewer.post(delete).status_code == 302
    assert not SavedView.objects.exists()


@pytest.mark.parametrize(
    ("posted", "said"),
    [
        ({}, "name: Give it a name"),
        ({"name": " " * 9}, "name: Give it a name"),
        ({"name": "x" * 101}, "name: Give it a name"),
        ({"name": "a\0b"}, "name: Give it a name"),
        ({"name": "n", "query": "group=colour"}, "query: group: Select a valid choice"),
        ({"name": "n", "query": "model=" + "x" * 3000}, "query: model: Ensure this value has at most 200"),
        ({"name": "n", "query": "\0"}, ""),
    ],
)
def test_nonsense_is_not_saved(posted: dict[str, str], said: str, viewer: Client, used: ApiKey) -> None:
    response = viewer.post(reverse("admin:desk_usage_save"), posted, follow=True)
    assert response.status_code in (200, 400)
    if said:
        assert said in str([str(message) for message in response.context["messages"]])
        assert not SavedView.objects.exists()


def test_views_have_a_bound(viewer: Client, used: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_explorer, "MOST_VIEWS", 1)
    for name in ("one", "two", "one"):
        viewer.post(reverse("admin:desk_usage_save"), {"name": name})
    assert [view.name for view in SavedView.objects.all()] == ["one"]


def test_each_kind_of_nothing_says_what_to_do(viewer: Client, db: None) -> None:
    assert "No usage yet" in viewer.get(PAGE).content.decode()
    assert "Nothing has been added up yet" in viewer.get(PAGE).content.decode()
    key, _ = make_key(make_tenant("acme"))
    make_tenant("quiet")
    add_usage(key, make_model(make_provider("https://a.example.com/v1")).deployments.get())
    roll_up(until=timezone.now())
    assert "Nothing matches these filters" in viewer.get(PAGE, {"tenant": "quiet"}).content.decode()
    assert "No usage in this time" in viewer.get(PAGE, {"first": "2020-01-01", "last": "2020-01-03"}).content.decode()


def test_late_sums_say_so(viewer: Client, used: ApiKey) -> None:
    assert "The sums are late" not in viewer.get(PAGE).content.decode()
    AnalyticsProgress.objects.update(through=timezone.now() - dt.timedelta(minutes=20))
    assert "The sums are late, by 20" in viewer.get(PAGE).content.decode()


def test_what_takes_too_long_says_what_to_narrow(viewer: Client, used: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")

    monkeypatch.setattr(usage_explorer, "TIMEOUT_MS", 5)
    monkeypatch.setattr(usage_explorer, "answer", slow)
    monkeypatch.setattr(usage_explorer, "rows_of", lambda *_, **__: slow())
    refused = viewer.get(reverse("admin:desk_usage_file", args=["xlsx"]))
    assert refused.status_code == 503
    assert "ask for fewer days" in refused.content.decode()
    html = viewer.get(PAGE).content.decode()
    assert "This took too long" in html
    assert "Ask for fewer days" in html


def test_names_of_others_are_written_as_text(viewer: Client, used: ApiKey) -> None:
    hostile = "<script>alert(1)</script>"
    AnalyticsDay.objects.update(model_name=hostile)
    AnalyticsHour.objects.update(model_name=hostile)
    html = viewer.get(PAGE, {"group": "model"}).content.decode()
    assert hostile not in html
    assert "&lt;script&gt;alert(1)" in html
