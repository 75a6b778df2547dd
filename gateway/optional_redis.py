"""Django's Redis cache, for what can do without: while Redis is away it forgets everything, and nothing fails.

Sessions are in the database as well, and logins are counted again once Redis is back.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def _unless_away(method: Callable[..., Any], *, then: Any) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(self: RedisCacheClient, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except RedisError as error:
            logger.warning("cache.redis_away", extra={"reason": str(error)})
            return then

    return guarded


class OptionalRedisClient(RedisCacheClient):
    """Answers as an empty cache would."""

    add = _unless_away(RedisCacheClient.add, then=False)
    set = _unless_away(RedisCacheClient.set, then=None)
    touch = _unless_away(RedisCacheClient.touch, then=False)
    delete = _unless_away(RedisCacheClient.delete, then=False)
    has_key = _unless_away(RedisCacheClient.has_key, then=False)

    def get(self, key: Any, default: Any) -> Any:
        """The value, or the default."""
        try:
            return super().get(key, default)
        except RedisError as error:
            logger.warning("cache.redis_away", extra={"reason": str(error)})
            return default

    def incr(self, key: Any, delta: int) -> int:
        """The new count. Raises ValueError for a key that is not there."""
        try:
            count: int = super().incr(key, delta)
        except RedisError as error:
            raise ValueError(key) from error
        return count


class OptionalRedisCache(RedisCache):
    """The backend to name in CACHES."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = OptionalRedisClient
