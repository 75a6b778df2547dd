"""Every operator action leaves one event with before and after and no secret; all roles may read the explorer."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.alerts import send_alerts
from billing.models import Budget, BudgetAlert
from gateway.audit.heads import read_heads
from gateway.audit.kept_texts import CallText, digest_of
from gateway.audit.verification import Place
from gateway.models import AuditCheck, KeptText
from providers.models import Credential, Model, ModelGroup
from tenants import refused_actions
from tenants.audit import SYSTEM, Actor, Subject, record
from tenants.models import ActorKind, ApiKey, AuditEvent, Operator, RateLimit, Tenant, WebhookEndpoint
from tenants.sealing import seal
from tests.admin.seeding import Seeded, add_usage
from tests.factories import make_key, make_model, make_provider, make_tenant, unique

AUDIT = reverse("admin:tenants_auditevent_changelist")
CANARY = "sk-canary-0123456789abcdef"


def chained(**filters: Any) -> list[AuditEvent]:
    """The events there are once this transaction would have been committed, the oldest first."""
    connection.check_constraints()
    return list(AuditEvent.objects.filter(**filters).order_by("id"))


def the_one(event: str) -> AuditEvent:
    (found,) = chained(event=event)
    return found


@pytest.fixture
def acme(db: None) -> Tenant:
    return make_tenant("acme")


# What operators do ----------------------------------------------------------------------------------------------------


def test_an_addition_a_change_and_an_action(operator: Client, acme: Tenant) -> None:
    person = Operator.objects.get(username="an-operator")
    page = reverse("admin:tenants_tenant_change", args=[acme.pk])
    fields = {
        "name": "acme", "timezone": "Europe/Berlin", "currency": "USD", "notify_emails": "", "keep_text_days": "7",
        "projects-TOTAL_FORMS": "0", "projects-INITIAL_FORMS": "0",
    }  # fmt: skip
    headers = {"x-forwarded-for": "203.0.113.9"}
    assert operator.post(page, fields, headers=headers).status_code == 302
    changed = the_one("tenant.changed")
    assert changed.details == {
        "before": {"timezone": "UTC", "keep_text_days": 0}, "after": {"timezone": "Europe/Berlin", "keep_text_days": 7},
    }  # fmt: skip
    assert (changed.actor_kind, changed.actor_id, changed.actor) == ("operator", person.pk, "an-operator")
    assert (changed.object_type, changed.object_id, changed.object_name) == ("tenant", str(acme.pk), "acme")
    assert changed.tenant_id == acme.pk and changed.address == "127.0.0.1", "nobody vouches for the header"

    suspend = reverse("admin:tenants_tenant_suspend", args=[acme.pk])
    assert (
        operator.post(suspend, {"confirmed": "yes", "reason": "does not pay", "typed_name": acme.name}).status_code
        == 302
    )
    suspended = the_one("tenant.suspended")
    assert suspended.details == {
        "before": {"status": "active"}, "after": {"status": "suspended"}, "message": "Suspended. does not pay",
    }  # fmt: skip

    operator.post(reverse("admin:tenants_tenant_add"), {**fields, "name": "newcomer"})
    added = the_one("tenant.added")
    assert added.details["before"] is None and added.details["after"]["name"] == "newcomer"
    assert added.tenant_id == Tenant.objects.get(name="newcomer").pk


def test_a_deletion(owner: Client, acme: Tenant) -> None:
    limit = RateLimit.objects.create(tenant=acme, requests_per_minute=60)
    assert owner.post(reverse("admin:tenants_ratelimit_delete", args=[limit.pk]), {"post": "yes"}).status_code == 302
    deleted = the_one("rate_limit.deleted")
    assert deleted.details["after"] is None and deleted.details["before"]["requests_per_minute"] == 60
    assert deleted.tenant_id == acme.pk


def test_a_keys_life(operator: Client, acme: Tenant) -> None:
    response = operator.post(reverse("admin:tenants_apikey_add"), {"name": "backend", "tenant": acme.pk})
    text = response.context["key_text"]
    key = ApiKey.objects.get(tenant=acme)
    page = reverse("admin:tenants_apikey_change", args=[key.pk])
    assert operator.post(page, {"name": "backend", "scopes": ["chat"]}).status_code == 302
    assert operator.post(reverse("admin:tenants_apikey_revoke", args=[key.pk]), {"confirmed": "yes"}).status_code == 302
    events = chained(object_type="api_key")
    assert [event.event for event in events] == ["api_key.added", "api_key.changed", "api_key.revoked"]
    assert events[0].details["after"]["digest"] == "[hidden]"
    assert events[1].details == {"before": {"scopes": []}, "after": {"scopes": ["chat"]}}
    assert events[2].details["before"] == {"revoked_at": None} and events[2].details["after"]["revoked_at"]
    assert {event.tenant_id for event in events} == {acme.pk}
    assert text not in str([event.data for event in events])


def test_what_is_edited_together_with_it(operator: Client, seeded: Seeded) -> None:
    """Members of a group are rows of another table."""
    group = ModelGroup.objects.create(name="a-group")
    page = reverse("admin:providers_modelgroup_change", args=[group.pk])
    fields = {
        "name": "a-group", "strategy": group.strategy, "members-TOTAL_FORMS": "1", "members-INITIAL_FORMS": "0",
        "members-0-model": seeded.model.pk, "members-0-position": "1", "members-0-weight": "1",
    }  # fmt: skip
    response = operator.post(page, fields)
    assert response.status_code == 302, response.context["errors"]
    details = the_one("model_group.changed").details
    ((name, before),) = details["before"].items()
    assert before == [] and details["after"][name][0]["model"] == seeded.model.pk


def test_what_an_operator_may_not_do_leaves_an_event_and_no_flood(
    viewer: Client, operator: Client, seeded: Seeded
) -> None:
    suspend = reverse("admin:tenants_tenant_suspend", args=[seeded.tenant.pk])
    assert viewer.post(suspend, {"confirmed": "yes"}).status_code == 403
    refused = the_one("operator.refused")
    assert refused.details == {"method": "POST", "path": suspend, "role": "viewer"}
    assert (refused.actor, refused.address, refused.tenant_id) == ("an-viewer", "127.0.0.1", None)
    about = (refused.object_type, refused.object_id, refused.object_name)
    assert about == ("tenant", str(seeded.tenant.pk), "suspend")
    assert viewer.get(reverse("admin:tenants_apikey_add")).status_code == 403
    assert operator.get(reverse("admin:tenants_operator_add")).status_code == 403
    for _ in range(30):
        assert viewer.post(suspend).status_code == 403
    by_viewer = chained(event="operator.refused", actor="an-viewer")
    assert len(by_viewer) == refused_actions.EVENTS_PER_MINUTE
    assert len(chained(event="operator.refused", actor="an-operator")) == 1, "each has a share of its own"
    Client().post(suspend)
    assert len(chained(event="operator.refused")) == len(by_viewer) + 1, "who is not logged in is asked to"


def test_what_was_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(refused_actions.time, "monotonic", lambda: now)
    minutes = refused_actions.Minutes()
    assert [minutes.take(1) for _ in range(13)] == [0] * 10 + [None] * 3
    now = 61.0
    assert [minutes.take(1), minutes.take(1), minutes.take(2)] == [3, 0, 0]


def test_an_action_that_comes_to_nothing_leaves_no_event(operator: Client, seeded: Seeded) -> None:
    before = len(chained())
    retired = Model.objects.create(name=unique("retired"), lifecycle="retired", capabilities=["chat"])
    operator.post(reverse("admin:providers_model_approve", args=[retired.pk]))
    operator.post(reverse("admin:tenants_tenant_suspend", args=[seeded.tenant.pk]))  # asks first
    assert {event.event for event in chained()[before:]} <= {"operator.logged_in"}


def test_money_that_was_moved(owner: Client, acme: Tenant) -> None:
    deployment = make_model(make_provider("https://api.example.com/v1"), name="chatty").deployments.get()
    charge = add_usage(make_key(acme)[0], deployment)
    page = reverse("admin:billing_usagerecord_adjust", args=[charge.pk])
    response = owner.post(page, {"confirmed": "yes", "amount": "-0.0001", "reason": "a promise"})
    assert response.status_code == 302, response.context["form"].errors
    adjusted = [event for event in chained(tenant=acme) if event.event.endswith(".adjusted")]
    (event,) = adjusted
    made = event.details["after"]["adjustment"]
    assert (made["amount_nano_usd"], made["reason"]) == (-100_000, "a promise")


def test_no_secret_is_ever_in_an_event(owner: Client, acme: Tenant) -> None:
    provider = make_provider("https://api.example.com/v1", name="vendor")
    add = reverse("admin:providers_credential_add")
    assert owner.post(add, {"provider": provider.pk, "name": "default", "enabled": "on", "secret": CANARY}).status_code
    credential = Credential.objects.get()
    page = reverse("admin:providers_credential_change", args=[credential.pk])
    assert owner.post(page, {"name": "default", "enabled": "on", "secret": f"{CANARY}-2"}).status_code == 302
    changed = the_one("credential.changed").details
    assert (changed["before"]["ciphertext"], changed["after"]["ciphertext"]) == ("[hidden]", "[hidden, changed]")
    hook = {"tenant": acme.pk, "url": f"https://hooks.example.com/{CANARY}", "enabled": "on"}
    response = owner.post(reverse("admin:tenants_webhookendpoint_add"), hook)
    endpoint = WebhookEndpoint.objects.get()
    rotated = owner.post(reverse("admin:tenants_webhookendpoint_rotate", args=[endpoint.pk]), {"confirmed": "yes"})
    me = Operator.objects.get(username="an-owner")
    password = f"{CANARY} long enough"
    change = {"password1": password, "password2": password}
    assert owner.post(reverse("admin:auth_user_password_change", args=[me.pk]), change).status_code == 302
    Client().post(reverse("admin:login"), {"username": CANARY, "password": CANARY})
    me.refresh_from_db()
    stored = json.dumps([event.data + event.object_name + event.actor + event.object_id for event in chained()])
    for secret in (CANARY, response.context["secret"], rotated.context["secret"], credential.ciphertext, me.password):
        assert secret not in stored
    assert the_one("operator.changed").details["after"] == {"password": "[hidden, changed]"}
    refused = the_one("operator.login_refused")
    assert (refused.actor_kind, refused.object_name, refused.address) == ("nobody", "no such operator", "127.0.0.1")


def test_logins(db: None) -> None:
    person = Operator.objects.create(username="ada", is_staff=True)
    person.set_password("correct horse battery")
    person.save()
    client = Client()
    login = reverse("admin:login")
    client.post(login, {"username": "ada", "password": "wrong"})
    client.post(login, {"username": "ada", "password": "correct horse battery", "next": "/admin/"})
    client.post(reverse("admin:logout"))
    events = chained(object_type="operator")
    assert [(event.event, event.actor) for event in events] == [
        ("operator.login_refused", ""), ("operator.logged_in", "ada"), ("operator.logged_out", "ada"),
    ]  # fmt: skip
    assert {event.object_name for event in events} == {"ada"} and {event.tenant_id for event in events} == {None}


def test_a_budget_alert(seeded: Seeded) -> None:
    alert = BudgetAlert.objects.filter(window__budget=seeded.budget)[0]
    send_alerts()
    told = [event for event in chained(event="budget.alert") if event.object_id == str(alert.window.budget_id)]
    assert told and {event.tenant_id for event in told} == {seeded.tenant.pk}
    assert {"percent", "limit_usd", "spent_usd"} <= told[0].details.keys()
    assert Budget.objects.filter(pk=told[0].object_id).exists()


def test_a_configuration_file(db: None, tmp_path: Any) -> None:
    file = tmp_path / "bursar.yaml"
    file.write_text("tenants: [{name: initech, keys: [{name: ci}]}]")
    call_command("apply", str(file), "--dry-run", stdout=StringIO())
    assert chained(event="configuration.applied") == []
    call_command("apply", str(file), stdout=StringIO())
    applied = the_one("configuration.applied")
    assert "tenant initech" in applied.details["created"] and "bsr_live_" not in applied.data
    assert (applied.actor_kind, applied.tenant_id) == ("system", None)


# The explorer ---------------------------------------------------------------------------------------------------------


def tell(event: str, tenant: Tenant | None, *, by: Actor = SYSTEM, type: str = "thing", id: str = "1") -> None:
    about = Subject(type=type, id=id, tenant_id=tenant.pk if tenant else None)
    record(event, by=by, about=about, details={"before": {"a": "<b>old</b>"}, "after": {"a": "new"}, "why": "<i>"})
    connection.check_constraints()


def listed(client: Client, **query: object) -> list[str]:
    """The events of the list, all its pages after one another."""
    response = client.get(AUDIT, query)
    found: list[str] = []
    while True:
        assert response.status_code == 200, response.get("Location")
        changelist = response.context["cl"]
        found += [row.event for row in changelist.result_list]
        if changelist.older is None:
            return found
        response = client.get(AUDIT + changelist.older)


def test_filters_and_search(viewer: Client, acme: Tenant) -> None:
    other = make_tenant()
    ada = Actor(kind=ActorKind.OPERATOR, id=1, name="an-operator")
    Operator.objects.create(username="an-operator", is_staff=True)
    key = Actor(kind=ActorKind.KEY, id=7, name="an-operator")
    tell("a.done", acme, by=ada)
    tell("b.done", other, by=key, type="request", id="req_1")
    tell("c.done", None, type="tenant")
    mine = {"a.done", "b.done", "c.done"}
    assert mine <= set(listed(viewer))
    assert listed(viewer, tenant__id__exact=acme.pk) == ["a.done"]
    assert set(listed(viewer, platform="only")) & mine == {"c.done"}
    assert listed(viewer, who="an-operator") == ["a.done"]
    assert listed(viewer, object_type="request") == ["b.done"]
    assert listed(viewer, actor_kind__exact="key") == ["b.done"]
    assert listed(viewer, q="req_1") == ["b.done"] and listed(viewer, q="req_") == []
    assert listed(viewer, q="a.done") == ["a.done"]
    assert listed(viewer, created_at_from="2020-01-01", created_at_to="2020-01-02") == []


def test_pages_follow_one_another(viewer: Client, acme: Tenant) -> None:
    for number in range(120):
        tell(f"e.{number}", acme)
    assert listed(viewer, tenant__id__exact=acme.pk) == [f"e.{number}" for number in reversed(range(120))]


def page_of(client: Client, event: AuditEvent) -> str:
    response = client.get(reverse("admin:tenants_auditevent_change", args=[event.pk]))
    assert response.status_code == 200
    return str(response.content.decode())


def test_an_events_page(viewer: Client, acme: Tenant) -> None:
    tell("tenant.changed", acme, type="tenant", id=str(acme.pk))
    event = the_one("tenant.changed")
    page = page_of(viewer, event)
    assert "&lt;b&gt;old&lt;/b&gt;" in page and "<b>old</b>" not in page and "&lt;i&gt;" in page
    assert event.digest in page and reverse("admin:tenants_tenant_change", args=[acme.pk]) in page
    tell("request.completed", acme, type="request", id="req_9")
    assert "/admin/gateway/requestrecord/?q=req_9" in page_of(viewer, the_one("request.completed"))


def test_nobody_may_change_anything(owner: Client, acme: Tenant) -> None:
    tell("a.done", acme)
    event = the_one("a.done")
    for page in ("change", "delete"):
        url = reverse(f"admin:tenants_auditevent_{page}", args=[event.pk])
        assert owner.post(url, {"event": "other", "post": "yes"}).status_code == 403
    assert owner.get(reverse("admin:tenants_auditevent_add")).status_code == 403
    assert chained(event="a.done") == [event]


def test_how_the_chains_stand(viewer: Client, acme: Tenant) -> None:
    tell("a.done", acme)
    assert "Not verified yet" in viewer.get(AUDIT).content.decode()
    AuditCheck.objects.create(ok=True, events=12)
    assert "Every chain was whole" in viewer.get(AUDIT).content.decode()
    AuditCheck.objects.create(ok=False, events=12, breaks=[{"chain": 0, "sequence": 3, "says": "it is missing"}])
    assert "the platform</a>, event 3: it is missing" in viewer.get(AUDIT).content.decode()


def test_a_kept_text_is_for_owners_and_their_reading_is_written_down(
    owner: Client, operator: Client, acme: Tenant
) -> None:
    bound_to = f"text:{acme.pk}:req_1".encode()
    nonce = bytes(range(16))
    sealed = [seal(text, bound_to=bound_to) for text in (nonce + b"a <b>prompt</b>", b"an answer")]
    now = timezone.now()
    kept = KeptText.objects.create(
        tenant=acme, request_id="req_1", created_at=now, expires_at=now, request=sealed[0], answer=sealed[1]
    )
    about = Subject(type="request", id="req_1", tenant_id=acme.pk)
    record(
        "request.completed",
        by=SYSTEM,
        about=about,
        details={"text_sha256": digest_of(nonce, b"a <b>prompt</b>", answer=b"an answer")},
    )
    event = the_one("request.completed")
    url = reverse("admin:tenants_auditevent_reveal", args=[event.pk])
    asked = {"confirmed": "yes", "reason": "a complaint"}
    assert operator.post(url, asked).status_code == 403 and "/reveal/" not in page_of(operator, event)
    response = owner.post(url, asked)
    assert "a &lt;b&gt;prompt&lt;/b&gt;" in response.content.decode() and "an answer" in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    read = the_one("audit_event.text_read")
    assert (read.tenant_id, read.details["message"], read.actor) == (acme.pk, "Text read. a complaint", "an-owner")
    assert "prompt" not in read.data
    for exchanged in (sealed[0], seal(b"another answer", bound_to=bound_to)):
        KeptText.objects.filter(pk=kept.pk).update(answer=exchanged)
        assert "not the one of this event" in owner.post(url, asked, follow=True).content.decode()
    KeptText.objects.filter(pk=kept.pk).update(answer=seal(b"an answer", bound_to=b"text:1:another"))
    assert "was not written for this row" in owner.post(url, asked, follow=True).content.decode()
    kept.delete()
    assert "Its days are over" in owner.post(url, asked, follow=True).content.decode()


def test_what_is_kept_of_a_text_is_bounded() -> None:
    text = CallText(b"x" * 1_000_000)
    for _ in range(5):
        text.hear({"type": "http.response.body", "body": b"y" * 100_000})
    assert len(text.request) == len(text.answer) == 256 * 1024


# The chains -----------------------------------------------------------------------------------------------------------


def test_each_chain_says_how_it_stands(viewer: Client, acme: Tenant) -> None:
    chains = reverse("admin:tenants_auditchain_changelist")
    for tenant_id in (acme.pk, acme.pk, None):
        record("thing.done", by=SYSTEM, about=Subject(type="thing", id="1", tenant_id=tenant_id), details={})
    first, last = chained(tenant=acme)
    assert "not verified" in viewer.get(chains).content.decode()
    AuditCheck.objects.create(ok=False, events=3, breaks=[{"chain": acme.pk, "sequence": 2, "says": "it is missing"}])
    listed = viewer.get(chains)
    standings = {row.tenant_name: bool(row.broken) for row in listed.context["cl"].result_list}
    assert standings == {None: False, "acme": True} and last.digest[:16] in listed.content.decode()
    assert [row.chain for row in viewer.get(f"{chains}?q=acm").context["cl"].result_list] == [acme.pk]
    page = viewer.get(reverse("admin:tenants_auditchain_change", args=[acme.pk])).content.decode()
    assert "Broken: event 2: it is missing." in page and last.digest in page and "the last one" not in page
    assert "acme" in viewer.get(AUDIT).content.decode(), "the log says whose chain is broken"
    event = page_of(viewer, first)
    assert reverse("admin:tenants_auditchain_change", args=[acme.pk]) in event


def test_the_heads_are_exported_for_who_may_read_the_log(viewer: Client, acme: Tenant) -> None:
    record("thing.done", by=SYSTEM, about=Subject(type="thing", id="1", tenant_id=acme.pk), details={})
    (event,) = chained(tenant=acme)
    export = reverse("admin:tenants_auditchain_export")
    response = viewer.get(export)
    assert "attachment" in response["Content-Disposition"] and "no-store" in response["Cache-Control"]
    assert read_heads(response.content.decode())[acme.pk] == Place(1, event.digest)
    assert Client().get(export).status_code == 302


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("refused", {"key.refused", "operator.login_refused"}),
        ("changes", {"tenant.changed"}),
        ("logins", {"operator.logged_in", "operator.login_refused"}),
        ("request.blocked", {"request.blocked"}),
        ("' OR 1=1", {"key.refused", "operator.login_refused", "tenant.changed", "operator.logged_in",
                      "request.blocked"}),
    ],
)  # fmt: skip
def test_events_of_a_kind(kind: str, found: set[str], viewer: Client, acme: Tenant) -> None:
    person = Actor(kind=ActorKind.OPERATOR, id=1, name="ada")
    for event, by in (
        ("tenant.changed", person), ("operator.logged_in", person), ("request.blocked", Actor(kind=ActorKind.KEY)),
        ("key.refused", Actor(kind=ActorKind.NOBODY)), ("operator.login_refused", Actor(kind=ActorKind.NOBODY)),
    ):  # fmt: skip
        record(event, by=by, about=Subject(type="thing", id="1", tenant_id=acme.pk), details={})
    connection.check_constraints()
    listed = viewer.get(AUDIT, {"kind": kind, "tenant__id__exact": acme.pk})
    if listed.status_code == 302:  # no such kind
        return
    assert {row.event for row in listed.context["cl"].result_list} == found


def test_who_it_was_is_a_link(viewer: Client, acme: Tenant) -> None:
    key, _ = make_key(acme, name="backend")
    by = Actor(kind=ActorKind.KEY, id=key.pk, name="backend")
    record("request.failed", by=by, about=Subject(type="request", id="req_7", tenant_id=acme.pk), details={})
    (event,) = chained(tenant=acme)
    page = page_of(viewer, event)
    assert reverse("admin:tenants_apikey_change", args=[key.pk]) in page
    assert f"{reverse('admin:gateway_requestrecord_changelist')}?q=req_7" in page
    assert "?q=req_7" in viewer.get(AUDIT, {"tenant__id__exact": acme.pk}).content.decode()
