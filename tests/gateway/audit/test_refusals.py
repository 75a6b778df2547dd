"""Refused keys in the audit log: told at once, counted afterwards, and never so many that they fill it."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.utils import timezone

from gateway.audit.events import EventRow
from gateway.audit.refusals import MOST_ORIGINS, Refusals
from gateway.audit.verification import verify
from gateway.errors import InvalidApiKeyError, PermissionDeniedError
from tenants.keys import generate_key
from tenants.models import PLATFORM, AuditEvent, Scope, TenantStatus
from tenants.services import set_tenant_status
from tests import factories
from tests.forked import Forkery
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

META = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/chat/completions"}


def refusals_of(tenant_id: int | None, *, after: int) -> Any:
    return AuditEvent.objects.filter(event="key.refused", tenant=tenant_id, id__gt=after).order_by("id")


@pytest.fixture
def newest(committed: None) -> int:
    last = AuditEvent.objects.order_by("-id").first()
    return last.pk if last is not None else 0


def test_calls_without_a_good_key(platform: Platform, newest: int, tmp_path: Path) -> None:
    guessed = generate_key()
    headers = [{}, {"authorization": f"Bearer {guessed}"}, {"x-api-key": "' OR 1=1 --"}] * 20
    with Forkery(tmp_path) as forkery:  # of its own: who else is refused from this address counts, too
        server = forkery.serve()
        server.wait_until_ready()
        with httpx.Client(base_url=server.base_url, trust_env=False) as nobody:
            told = [nobody.post("/chat/completions", json={}, headers=one).status_code for one in headers]
        assert set(told) == {401}
        find = refusals_of(None, after=newest).filter(object_id="POST /v1/chat/completions")
        first = until(find.all().first, what="its event")
        assert (first.actor_kind, first.address, first.details["calls"]) == ("nobody", "127.0.0.1", 1)
        assert first.details["error_code"] == "invalid_api_key"
    further = find.all()[1]
    assert find.count() == 2 and further.details["calls"] == len(headers) - 1, "told when the process ended"
    written = str(list(AuditEvent.objects.filter(id__gt=newest).values()))
    assert guessed not in written and "1=1" not in written


def test_a_key_that_may_not_is_told_in_its_tenants_chain(uvicorn: LiveServer, platform: Platform, newest: int) -> None:
    tenant = factories.make_tenant()
    factories.approve(tenant, platform.chat)
    yesterday = timezone.now() - dt.timedelta(days=1)
    keys = {
        "permission_denied": factories.make_key(tenant, name="narrow", scopes=[Scope.MODELS.value])[1],
        "invalid_api_key": factories.make_key(tenant, name="old", expires_at=yesterday)[1],
    }
    ask = {"model": platform.chat.name, "messages": [{"role": "user", "content": "a canary in the prompt"}]}
    for key in keys.values():
        with uvicorn.client(key) as client:
            assert client.post("/chat/completions", json=ask).status_code in (401, 403)
    find = refusals_of(tenant.pk, after=newest)
    events = {event.actor: event for event in until(lambda: len(find.all()) == 2 and list(find.all()), what="both")}
    assert {event.details["error_code"]: name for name, event in events.items()} == {
        "permission_denied": "narrow", "invalid_api_key": "old",
    }  # fmt: skip
    assert all(event.actor_kind == "key" and event.actor_id for event in events.values())
    assert "canary" not in str([event.data for event in events.values()])
    set_tenant_status(tenant, TenantStatus.SUSPENDED)
    with uvicorn.client(factories.make_key(tenant, name="late")[1]) as client:
        assert client.post("/chat/completions", json=ask).json()["error"]["code"] == "tenant_suspended"
    late = until(find.all().filter(actor="late").first, what="the suspended tenant's")
    assert late.details["error_code"] == "tenant_suspended"
    assert [found for found in verify().breaks if found.chain in (tenant.pk, PLATFORM)] == []


async def test_a_flood_leaves_two_events_a_minute() -> None:
    put: list[EventRow] = []
    refusals = Refusals(put.append, window_seconds=0.05)
    for _ in range(10_000):
        refusals.note(None, InvalidApiKeyError(), meta=META, address="203.0.113.9")
    refusals.note(None, PermissionDeniedError("No."), meta=META, address="203.0.113.9")
    assert len(put) == 2
    async with asyncio.timeout(5):
        while len(put) < 3:
            await asyncio.sleep(0.01)
    assert (put[2].data.calls, put[2].address) == (9_999, "203.0.113.9")  # type: ignore[union-attr]
    refusals.note(None, InvalidApiKeyError(), meta=META, address="203.0.113.9")
    assert len(put) == 4, "a new minute"
    refusals.flush()
    assert len(put) == 4, "nothing followed"


async def test_a_flood_from_everywhere_leaves_no_more() -> None:
    put: list[EventRow] = []
    refusals = Refusals(put.append)
    for number in range(50_000):
        refusals.note(None, InvalidApiKeyError(), meta=META, address=f"2001:db8::{number % 20_000:x}")
    refusals.flush()
    assert len(put) == 2 * MOST_ORIGINS + 1
    last: Any = put[-1].data
    assert (last.calls, last.origins) == (50_000 - 3 * MOST_ORIGINS, 100 * MOST_ORIGINS)
    told: list[Any] = [row.data for row in put]
    assert sum(one.calls for one in told) == 50_000, "every call is counted"
