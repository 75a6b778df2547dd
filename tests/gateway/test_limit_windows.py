"""The windows of rate limits, in Redis and in a process, against a list of everything that was ever admitted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings

from gateway.limit_buckets import MEASURES, Bucket, Standing, buckets_for, duration, headers_for
from gateway.limits import SCRIPT
from gateway.limits_local import LocalLimits
from tenants.selectors import Principal, RateLimitRule

START = 1_800_000_000.0
MINUTE, DAY = MEASURES[0], MEASURES[1]
CONCURRENCY = MEASURES[4]
# Production asks Redis for the time; here the last argument is the time.
CLOCKED = SCRIPT.replace("redis.call('TIME')", "{ARGV[#ARGV], 0}")


class RedisWindows:
    """The script as the gateway calls it, at any time."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._script = client.register_script(CLOCKED)

    def admit(self, buckets: list[Bucket], now: float, lease: str = "a") -> tuple[int, int, list[int]]:
        arguments: list[Any] = ["admit", lease, 600]
        for bucket in buckets:
            arguments += [bucket.limit, bucket.amount, bucket.measure.interval_seconds, bucket.measure.intervals]
        refusing, wait_ms, _, *rest = self._script([bucket.key for bucket in buckets], [*arguments, repr(now)])
        return refusing, wait_ms, rest[::2]

    def finish(self, bucket: Bucket, now: float, *, admitted_at: float, difference: int, lease: str = "a") -> None:
        measure = bucket.measure
        arguments = ["finish", lease, int(admitted_at * 1e6), difference, measure.interval_seconds, measure.intervals]
        self._script([bucket.key], [*arguments, repr(now)])


@pytest.fixture
def windows(_engines: None) -> Iterator[RedisWindows]:
    client = redis.Redis.from_url(settings.REDIS_CONNECTION)
    yield RedisWindows(client)
    client.flushdb()
    client.close()


def bucket(measure: Any = MINUTE, limit: int = 10, amount: int = 1, key: str = "{t:0}:test") -> Bucket:
    return Bucket(f"{key}:{measure.field}", measure, "tenant", "", limit, amount)


@pytest.mark.parametrize("measure", [MINUTE, DAY], ids=["minute", "day"])
@pytest.mark.parametrize("seed", range(5))
def test_no_window_ever_has_more_than_the_limit(windows: RedisWindows, measure: Any, seed: int) -> None:
    rng = random.Random(seed)
    length = 60 if measure is MINUTE else 86400
    local, now, admitted = LocalLimits(), START + rng.random(), [(0.0, 0)]
    for _ in range(400):
        now += rng.choice([0, 0.001, 0.3, 1, 7, 70]) * rng.random() * length / 60
        asked = bucket(measure, limit=50, amount=rng.choice([1, 1, 5, 20]))
        refusing, wait_ms, (used,) = windows.admit([asked], now)
        standings, local_refusing, wait_seconds = local.admit([asked], now)
        assert bool(refusing) == (local_refusing is not None), "Redis and the process decide alike"
        assert used == standings[0].used
        inside = sum(amount for moment, amount in admitted if moment > now - length)
        if refusing:
            assert inside + asked.amount > 50 - _leaving(admitted, now, length), "refused in vain"
            assert abs(wait_ms / 1000 - wait_seconds) < 0.01
            assert local.admit([asked], now + wait_seconds - 0.01)[1] is not None, "told to wait too long"
            now += wait_ms / 1000 + 0.001
            assert windows.admit([asked], now)[0] == 0, "told to wait too short"
            assert local.admit([asked], now)[1] is None
            inside = sum(amount for moment, amount in admitted if moment > now - length)
        assert inside + asked.amount <= 50
        admitted.append((now, asked.amount))


def _leaving(admitted: list[tuple[float, int]], now: float, length: float) -> int:
    """What left the window within the last interval, and so may still count."""
    interval = 1 if length == 60 else 900
    return sum(amount for moment, amount in admitted if now - length - interval < moment <= now - length)


def test_all_or_none(windows: RedisWindows) -> None:
    wide, narrow = bucket(limit=10, key="{t:0}:wide"), bucket(limit=2, key="{t:0}:narrow")
    held = bucket(CONCURRENCY, limit=5)
    outcomes = [windows.admit([wide, narrow, held], START, lease=str(number)) for number in range(4)]
    assert [refusing for refusing, _, _ in outcomes] == [0, 0, 2, 2]
    assert outcomes[-1][2] == [2, 2, 2], "what refuses one leaves no trace in the others"


def test_the_edge_of_a_minute_is_no_way_around(windows: RedisWindows) -> None:
    asked = bucket(limit=10)
    assert [windows.admit([asked], START + 59.9)[0] for _ in range(10)] == [0] * 10
    assert windows.admit([asked], START + 60.1)[0] == 1
    assert windows.admit([asked], START + 119.8)[0] == 1
    assert [windows.admit([asked], START + 120.1)[0] for _ in range(11)] == [0] * 10 + [1]


def test_a_clock_set_back_does_not_lock_out(windows: RedisWindows) -> None:
    asked = bucket(limit=1)
    assert windows.admit([asked], START)[0] == 0
    assert windows.admit([asked], START - 0.5)[0] == 1, "a little back is still the same window"
    assert windows.admit([asked], START - 3600)[0] == 0


def test_tokens_are_put_right(windows: RedisWindows) -> None:
    measure = MEASURES[2]
    asked = bucket(measure, limit=100, amount=40)
    windows.admit([asked], START)
    windows.finish(asked, START + 5, admitted_at=START, difference=-30)
    assert windows.admit([asked], START + 6)[2] == [50]
    windows.finish(asked, START + 30, admitted_at=START + 6, difference=60)
    assert windows.admit([asked._replace(amount=1)], START + 31)[0] == 1
    assert windows.admit([asked._replace(amount=1)], START + 70)[2] == [61], "more counts from when it is known"
    windows.finish(asked, START + 200, admitted_at=START, difference=-30)
    assert windows.admit([asked._replace(amount=1)], START + 200)[2] == [1], "what has left cannot be given back"
    windows.client.flushdb()
    windows.finish(asked, START + 201, admitted_at=START + 200, difference=-30)
    assert windows.admit([asked._replace(amount=1)], START + 201)[2] == [1], "nor what a flush has taken"


def test_a_lease_ends_by_itself(windows: RedisWindows) -> None:
    asked = bucket(CONCURRENCY, limit=2)
    assert [windows.admit([asked], START, lease=name)[0] for name in "abc"] == [0, 0, 1]
    windows.finish(asked, START + 1, admitted_at=START, difference=0, lease="a")
    assert [windows.admit([asked], START + 2, lease=name)[0] for name in "cd"] == [0, 1]
    assert windows.admit([asked], START + 601, lease="e")[0] == 0, "b is taken for dead"


def test_nothing_is_left_behind(windows: RedisWindows) -> None:
    asked = [bucket(measure) for measure in MEASURES]
    windows.admit(asked, START)
    keys = windows.client.keys("{t:0}*")
    assert len(keys) == len(MEASURES)
    assert all(0 < windows.client.ttl(key) <= 90_000 for key in keys)


def test_a_process_admits_its_share() -> None:
    local = LocalLimits()
    local.processes = 4
    asked = bucket(limit=100)
    assert sum(local.admit([asked], START)[1] is None for _ in range(100)) == 25
    rare = bucket(limit=2, key="rare")
    assert local.admit([rare], START)[1] is None, "at least one each"
    large = bucket(MEASURES[2], limit=100, amount=80)
    assert local.admit([large], START)[1] is None, "a call that the whole limit has room for is not locked out"
    assert local.admit([large], START)[1] is large
    held = bucket(CONCURRENCY, limit=8)
    for expected in (None, None, held):
        assert local.admit([held], START)[1] is expected
        local.hold([held])
    local.release([held])
    local.release([held])
    assert local.admit([held], START)[1] is None
    local.forget_empty(START + 100)
    assert local.admit([asked], START + 100)[1] is None


RULE = {"requests_per_day": None, "tokens_per_minute": None, "tokens_per_day": None, "concurrency": None}


def test_which_rules_are_about_a_call() -> None:
    principal = Principal(
        key_id=1, key_name="ci", tenant_id=7, tenant_name="acme", tenant_active=True, timezone="UTC", project_id=None,
        project_name="", user="", scopes=frozenset(), networks=(), expires_at=None,
    )  # fmt: skip
    about = [("tenant", ""), ("project", ""), ("user", ""), ("user", "ann"), ("user", "b"), ("key", "ci"), ("key", "x")]
    rules = [
        RateLimitRule(id=number, scope=scope, subject=subject, requests_per_minute=5, **RULE)
        for number, (scope, subject) in enumerate(about)
    ]
    found = buckets_for(rules, principal, user="ann", tokens=1)
    assert [(entry.scope, entry.subject) for entry in found] == [
        ("tenant", ""), ("user", "ann"), ("user", "ann"), ("key", "ci"),
    ]  # fmt: skip
    assert len({entry.key for entry in found}) == 4 and all(entry.key.startswith("{t:7}:") for entry in found)
    assert [entry.scope for entry in buckets_for(rules, principal, user="", tokens=1)] == ["tenant", "key"]


def test_headers_are_of_the_limit_that_is_nearest() -> None:
    wide, narrow = bucket(limit=100), bucket(DAY, limit=10)
    standings = [Standing(wide, 50, 100, 100), Standing(narrow, 9, 10, 87_300_000)]
    assert headers_for(standings) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "24h15m0s",
    }


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(-1, "0ms"), (12, "12ms"), (1000, "1s"), (59_001, "1m0s"), (360_000, "6m0s")]
)
def test_durations(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text
