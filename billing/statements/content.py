"""What a statement says, in bytes that are the same whenever the same is said: the content hash is of these."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import orjson

from billing.models import Statement

LINE_FIELDS = (
    "position", "kind", "project", "user", "model", "provider", "reason", "calls", "unpriced_calls", "input_tokens",
    "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost_nano_usd",
)  # fmt: skip
HEAD_FIELDS = (
    "tenant_name", "kind", "period", "timezone", "calls", "unpriced_calls", "subtotal_nano_usd", "markup_basis_points",
    "markup_nano_usd", "rounding_nano_usd", "total_cents",
)  # fmt: skip
VERSION = "bursar-statement-1"


def canonical(statement: Statement) -> Iterator[bytes]:
    """One line of JSON for the head, then one for each line, in order. Two queries at most.

    Neither number nor state is part of it: a draft and what is issued from it have one hash.
    """
    head = {name: getattr(statement, name) for name in HEAD_FIELDS}
    head["version"] = VERSION
    head["starts_at"], head["ends_at"] = (_moment(moment) for moment in (statement.starts_at, statement.ends_at))
    head["credits"] = statement.credits.number if statement.credits else ""
    yield orjson.dumps(head, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    for line in statement.lines.order_by("position").values_list(*LINE_FIELDS).iterator(chunk_size=5_000):
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def content_hash(statement: Statement) -> str:
    """SHA-256 of the canonical bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for part in canonical(statement):
        digest.update(part)
    return digest.hexdigest()


def _moment(moment: object) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
