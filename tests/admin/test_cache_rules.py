"""The cache in the admin: what all rules came to, and how much is kept at the moment."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import redis
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.money import NANO_PER_USD
from gateway.caching.models import CacheDay, CacheRule
from gateway.caching.questions import prefix
from gateway.caching.services import Kept, kept_now
from tests.factories import make_tenant
from tests.live import free_port

RULES = reverse("admin:gateway_cacherule_changelist")


@pytest.fixture
def rule(db: None) -> CacheRule:
    return CacheRule.objects.create(tenant=make_tenant("acme"))


def page(rule: CacheRule) -> str:
    return reverse("admin:gateway_cacherule_change", args=[rule.pk])


def test_what_the_rules_that_are_shown_came_to(viewer: Client, rule: CacheRule) -> None:
    other = CacheRule.objects.create(tenant=make_tenant("other"), enabled=False)
    today = timezone.now().date()
    CacheDay.objects.create(rule=rule, day=today, hits=30, misses=10, saved_nano_usd=2 * NANO_PER_USD)
    CacheDay.objects.create(rule=other, day=today, hits=0, misses=20)
    CacheDay.objects.create(rule=other, day=today - timezone.timedelta(days=8), hits=1000)
    whole = viewer.get(RULES).context["cl"].totals
    assert whole == {"Hit rate": "50.0 %", "Answered from the cache": "30 of 60 calls", "Saved": "2 USD"}
    shown = viewer.get(RULES, {"enabled__exact": "1"}).context["cl"].totals
    assert shown["Hit rate"] == "75.0 %"
    CacheDay.objects.all().delete()
    assert viewer.get(RULES).context["cl"].totals["Hit rate"] == "-"


def test_how_much_is_kept(viewer: Client, rule: CacheRule, settings: Any) -> None:
    assert "0 answers" in viewer.get(page(rule)).content.decode()
    begins = f"{prefix(rule.tenant_id, rule.pk)}:{rule.epoch.hex}"
    old = f"{prefix(rule.tenant_id, rule.pk)}:{uuid4().hex}"
    keys = [f"{begins}:a:w", f"{begins}:a:s", f"{begins}:b:w:lead", f"{old}:c:w", f"{begins}0:d:w"]
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        for key in keys:
            client.set(key, "x", ex=60)
        try:
            assert kept_now(rule) == Kept(2), "neither calls under way nor what was purged"
            assert "2 answers" in viewer.get(page(rule)).content.decode()
        finally:
            client.delete(*keys)


def test_while_redis_is_away(viewer: Client, rule: CacheRule, settings: Any) -> None:
    settings.REDIS_CONNECTION = f"redis://127.0.0.1:{free_port()}/0"
    assert kept_now(rule) is None
    assert "Redis does not answer" in viewer.get(page(rule)).content.decode()
