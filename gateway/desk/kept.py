"""What the operators' pages remember for some seconds, so that many who look at once cost as much as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache import cache
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver

SECONDS = 15
"""How old a figure may be that is read again at each look. 0 remembers nothing."""

SHAPE = 1
"""Raise it when what is remembered gets other fields: processes of two releases run side by side for a while."""

NEEDS = "needs"

Made = TypeVar("Made")


def kept(name: str, make: Callable[[], Made], *, seconds: int | None = None) -> Made:
    """What `make` returned lately, by this or another process; else what it returns now. None is not remembered."""
    seconds = SECONDS if seconds is None else seconds
    if not SECONDS or not seconds:
        return make()
    key = _key(name)
    found: Made | None = cache.get(key)
    if found is None:
        found = make()
        cache.set(key, found, seconds)
    return found


@receiver(post_save, sender="admin.LogEntry", dispatch_uid="desk-needs")
def _forget_needs(**_signal: Any) -> None:
    """Whoever has just decided something must not find it waiting."""
    transaction.on_commit(lambda: cache.delete(_key(NEEDS)))


def _key(name: str) -> str:
    return f"desk:{SHAPE}:{name}"
