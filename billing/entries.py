"""What is written into the ledger: reservations, charges and voids."""

from __future__ import annotations

import datetime as dt
import os
import time

import msgspec

from billing.budgets import Hold
from billing.estimates import SMALLEST_ANSWER_TOKENS

UNSTORABLE = b'{"unstorable": true}'
"""In the place of a usage object that the database refused; the log has the reason."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt's row as it is committed before dispatch."""

    id: str
    request_id: str
    tenant_id: int
    api_key_id: int
    deployment_id: int
    operation: str
    model_name: str
    provider_name: str
    created_at: dt.datetime
    fixed_nano_usd: int = 0
    output_pico_usd: int = 0
    max_output_tokens: int | None = None
    smallest_output_tokens: int = SMALLEST_ANSWER_TOKENS
    may_shrink: bool = False
    holds: list[Hold] = []


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """A charge: `billing.models.UsageRecord` says what each field means. When it is posted is the database's to say."""

    attempt_id: str
    started_at: dt.datetime
    request_id: str
    tenant_id: int
    project_id: int | None
    api_key_id: int
    user: str
    conversation: str
    agent: str
    agent_type: str
    operation: str
    requested_model: str
    model_name: str
    provider_name: str
    upstream_model: str
    stream: bool
    ending: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    units: dict[str, int]
    provider_usage: msgspec.Raw
    usage_source: str
    price_id: int | None
    cost_nano_usd: int
    latency_ms: int
    first_content_ms: int | None


class Void(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that cost nothing, and why."""

    attempt_id: str
    failure: str


def without_providers_words(row: Settlement | Void) -> Settlement | None:
    """A charge without its provider's usage object, which may hold what no jsonb takes (NUL, a number of a million
    digits): that must not keep the charge out of the books. None when there is nothing to take out."""
    if isinstance(row, Void) or bytes(row.provider_usage) in (b"{}", UNSTORABLE):
        return None
    return msgspec.structs.replace(row, provider_usage=msgspec.Raw(UNSTORABLE))


def new_attempt_id() -> str:
    """A UUIDv7 as 32 hexadecimal digits: made here, so that a reservation may be repeated, and ordered by time, so that
    the index grows at its end."""
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10))
    number = milliseconds << 80 | noise
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return f"{number:032x}"
