"""Purging: what was kept under a rule is not found any more, and is deleted as far as a moment's work goes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from uuid import uuid4

import redis
from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

from gateway.caching.models import CacheRule
from gateway.caching.questions import prefix

logger = logging.getLogger(__name__)

DELETING_SECONDS = 5.0
"""An operator waits no longer. What is left is out of reach, and runs out by itself."""
KEYS_AT_ONCE = 1000
LEAD = ":lead"
"""Ends the keys of calls under way."""
COUNTING_SECONDS = 0.5
"""Redis is looked through key by key: whoever opens a page gets as far as that."""


def purge(rule: CacheRule) -> None:
    """Put a rule's entries out of reach: every process sees it within two seconds, whether or not Redis is there."""
    CacheRule.objects.filter(pk=rule.pk).update(epoch=uuid4())
    transaction.on_commit(lambda: _delete(rule))


def purge_tenant(rule: CacheRule) -> None:
    """The same for every rule of the rule's tenant."""
    for other in CacheRule.objects.filter(tenant=rule.tenant_id):
        purge(other)


@dataclass(frozen=True, slots=True)
class Kept:
    """How many answers are kept under a rule; `at_least` where a moment was too short to see all of them."""

    answers: int
    at_least: bool = False


def kept_now(rule: CacheRule) -> Kept | None:
    """Count what Redis has of a rule, for an operator who looks; None while Redis is away."""
    deadline = time.monotonic() + COUNTING_SECONDS
    pattern = f"{prefix(rule.tenant_id, rule.pk)}:{rule.epoch.hex}:*"
    client = redis.Redis.from_url(
        settings.REDIS_CONNECTION, socket_timeout=1, socket_connect_timeout=1, decode_responses=True
    )
    keys: set[str] = set()
    try:
        cursor = 0
        while time.monotonic() < deadline:
            cursor, found = client.scan(cursor, match=pattern, count=KEYS_AT_ONCE)
            keys.update(key for key in map(str, found) if not key.endswith(LEAD))
            if not cursor:
                return Kept(len(keys))
    except (RedisError, OSError):
        return None
    finally:
        client.close()
    return Kept(len(keys), at_least=True)


def _delete(rule: CacheRule) -> None:
    deadline = time.monotonic() + DELETING_SECONDS
    pattern = f"{prefix(rule.tenant_id, rule.pk)}:*"
    client = redis.Redis.from_url(settings.REDIS_CONNECTION, socket_timeout=1, socket_connect_timeout=1)
    try:
        cursor = 0
        while time.monotonic() < deadline:
            cursor, keys = client.scan(cursor, match=pattern, count=KEYS_AT_ONCE)
            if keys:
                client.unlink(*keys)
            if not cursor:
                return
    except (RedisError, OSError) as error:
        logger.warning("response_cache.purge_unfinished", extra={"rule": rule.pk, "reason": str(error)})
    finally:
        client.close()
