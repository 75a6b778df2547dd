"""Operators see how often answers were there, and purge them."""

from __future__ import annotations

import datetime as dt
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway.models import CacheDay
from tenants.models import Operator, Role
from tests.gateway.caching.conftest import Keeper, MakeKeeper, kept_keys
from tests.gateway.caching.test_answers import state
from tests.live import until


@pytest.fixture
def operators(committed: None) -> dict[str, Client]:
    clients = {}
    for role in (Role.OPERATOR, Role.VIEWER):
        operator, _ = Operator.objects.get_or_create(
            username=f"cache-{role}", defaults={"role": role, "is_staff": True}
        )
        clients[role.value] = Client()
        clients[role.value].force_login(operator)
    return clients


def page(name: str, keeper: Keeper) -> str:
    return reverse(f"admin:gateway_cacherule_{name}", args=[keeper.rule.pk])


@pytest.mark.parametrize("what", ["purge", "purge_tenant"])
def test_a_purge(what: str, keeper: Keeper, make_keeper: MakeKeeper, operators: dict[str, Client]) -> None:
    other = make_keeper()
    for one in (keeper, other):
        assert state(one.ask()) == "miss"
        until(lambda one=one: kept_keys(one), what="the answer being kept")
    assert operators["viewer"].post(page(what, keeper), {"confirmed": "1"}).status_code == 403
    assert state(keeper.ask()) == "hit"
    assert operators["operator"].post(page(what, keeper), {"confirmed": "1"}).status_code == 302
    assert kept_keys(keeper) == [] and state(other.ask()) == "hit"
    assert state(keeper.ask()) == "miss"


def test_what_redis_still_has_is_out_of_reach(keeper: Keeper) -> None:
    assert state(keeper.ask()) == "miss"
    until(lambda: kept_keys(keeper), what="the answer being kept")
    type(keeper.rule).objects.filter(pk=keeper.rule.pk).update(epoch=uuid4())
    until(lambda: state(keeper.ask()) == "miss", what="the purge being seen")
    assert len(kept_keys(keeper)) >= 1


def test_hit_rates(keeper: Keeper, operators: dict[str, Client]) -> None:
    today = timezone.now().astimezone(dt.UTC).date()
    CacheDay.objects.create(rule=keeper.rule, day=today, hits=3, misses=1, saved_nano_usd=2_000_000_000)
    CacheDay.objects.create(rule=keeper.rule, day=today - dt.timedelta(days=10), hits=1, misses=9)
    shown = operators["viewer"].get(reverse("admin:gateway_cacherule_changelist")).content.decode()
    assert "75.0 %" in shown and "3 of 4" in shown
    days = operators["viewer"].get(page("change", keeper)).content.decode()
    assert "75.0 %" in days and "10.0 %" in days
