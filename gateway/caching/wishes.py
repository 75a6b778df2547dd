"""What a client's headers ask of the cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import ValidationError

CACHE_CONTROL, OWN = "HTTP_CACHE_CONTROL", "HTTP_X_GATEWAY_CACHE"
WORDS = ("any-temperature", "context-dependent")
MAX_AGE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheWish:
    """How a client wants its call answered, where a rule lets it be answered from the cache at all."""

    is_stored: bool = True
    """False: neither looked up nor kept."""
    max_age_seconds: int | None = None
    """How old an answer may be; 0: it is made anew, and kept."""
    any_temperature: bool = False
    context_dependent: bool = False


NO_WISH = CacheWish()


def cache_wish(meta: Mapping[str, Any]) -> CacheWish:
    """Read `Cache-Control` and `X-Gateway-Cache`. Raises `ValidationError` for what cannot be meant."""
    if CACHE_CONTROL not in meta and OWN not in meta:
        return NO_WISH
    directives = _words(meta.get(CACHE_CONTROL, ""))
    own = _words(meta.get(OWN, ""))
    if unknown := [word for word in own if word not in WORDS]:
        raise ValidationError(
            f"X-Gateway-Cache takes {' and '.join(WORDS)}, not {unknown[0]!r}.", param="X-Gateway-Cache"
        )
    return CacheWish(
        is_stored="no-store" not in directives,
        max_age_seconds=0 if "no-cache" in directives else _max_age(directives),
        any_temperature="any-temperature" in own,
        context_dependent="context-dependent" in own,
    )


def _words(header: str) -> list[str]:
    return [word for word in (part.strip().lower() for part in header.split(",")) if word]


def _max_age(directives: list[str]) -> int | None:
    """Of several the strictest. Directives that mean nothing to us are ignored, as HTTP has it."""
    given = [value.strip() for name, _, value in (word.partition("=") for word in directives) if name == "max-age"]
    if any(not MAX_AGE.fullmatch(value) for value in given):
        raise ValidationError("Cache-Control: max-age is a number of seconds.", param="Cache-Control")
    return min(map(int, given), default=None)
