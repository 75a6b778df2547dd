"""What a provider's status and headers mean for a call, whatever its protocol. No Django."""

from __future__ import annotations

import datetime as dt
import email.utils
from collections.abc import Mapping

import msgspec

from providers.errors import Failure

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a provider's JSON can raise. Bad UTF-8 shows only in the strings that are really decoded."""


def failure_of_status(status: int) -> Failure:
    """Sort an HTTP status: who is at fault, and may another deployment help."""
    if status in (401, 402, 403):
        return Failure.REFUSED_CREDENTIAL
    if status == 429:
        return Failure.THROTTLED
    if status < 400 or status in (404, 408, 409) or status >= 500:
        # A redirect is not followed; a 404 is a model or path this server does not have: both the operator's mistake.
        return Failure.BROKEN
    return Failure.REFUSED_INPUT


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After as seconds or as a date; None for absent, negative or unreadable values."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (moment - dt.datetime.now(dt.UTC)).total_seconds() if moment.tzinfo is not None else -1
    return seconds if 0 <= seconds < 86_400 else None
