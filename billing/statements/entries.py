"""The ledger's entries as statements read them: each by the moment it was posted, each on exactly one statement.

An entry belongs to the period it was posted in, whenever its call began: a late one falls into the next by itself.
"""

from __future__ import annotations

import datetime as dt

from django.db import connection

USAGE = """
    SELECT 'usage' AS kind, coalesce(project.name, '') AS project, entry."user", entry.model_name AS model,
        entry.provider_name AS provider, '' AS reason, count(*) AS calls,
        count(*) FILTER (WHERE entry.price_id IS NULL
            AND entry.usage_source NOT IN ('unknown', 'cache')) AS unpriced_calls,
        sum(entry.input_tokens)::bigint AS input_tokens, sum(entry.output_tokens)::bigint AS output_tokens,
        sum(entry.cache_read_tokens)::bigint AS cache_read_tokens,
        sum(entry.cache_write_tokens)::bigint AS cache_write_tokens,
        sum(entry.reasoning_tokens)::bigint AS reasoning_tokens, sum(entry.cost_nano_usd)::bigint AS cost_nano_usd
    FROM billing_usagerecord entry LEFT JOIN tenants_project project ON project.id = entry.project_id
    WHERE entry.tenant_id = %(tenant_id)s AND entry.created_at >= %(start)s AND entry.created_at < %(end)s
    GROUP BY 2, 3, 4, 5
"""

# Each with its reason. A credit note's own adjustments are on the credit note.
ADJUSTMENTS = """
    SELECT entry.kind, coalesce(project.name, '') AS project, entry."user", entry.model_name AS model,
        entry.provider_name AS provider, entry.reason, 0 AS calls, 0 AS unpriced_calls, 0 AS input_tokens,
        0 AS output_tokens, 0 AS cache_read_tokens, 0 AS cache_write_tokens, 0 AS reasoning_tokens,
        sum(entry.amount_nano_usd)::bigint AS cost_nano_usd
    FROM billing_adjustment entry LEFT JOIN tenants_project project ON project.id = entry.project_id
    WHERE entry.tenant_id = %(tenant_id)s AND entry.created_at >= %(start)s AND entry.created_at < %(end)s
        AND NOT EXISTS (SELECT FROM billing_statementline line WHERE line.adjustment = entry.id)
    GROUP BY 1, 2, 3, 4, 5, 6
"""

NUMBERS = (
    "calls, unpriced_calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, "
    "cost_nano_usd"
)
NAMES = 'kind, project, "user", model, provider, reason'

# Ordered by bytes: a database's own collation differs from host to host, and would change the order and so the hash.
WRITE_LINES = f"""
INSERT INTO billing_statementline (statement_id, position, {NAMES}, {NUMBERS})
SELECT %(statement_id)s, row_number() OVER (
    ORDER BY kind COLLATE "C" DESC, project COLLATE "C", "user" COLLATE "C", model COLLATE "C", provider COLLATE "C",
        reason COLLATE "C"
), {NAMES}, {NUMBERS}
FROM ({USAGE} UNION ALL {ADJUSTMENTS}) AS entry
"""  # noqa: S608 -- our own constants

FIRST_POSTED = """
SELECT least(
    (SELECT min(created_at) FROM billing_usagerecord
        WHERE tenant_id = %(tenant_id)s AND created_at >= %(start)s AND created_at < %(end)s),
    (SELECT min(created_at) FROM billing_adjustment entry
        WHERE tenant_id = %(tenant_id)s AND created_at >= %(start)s AND created_at < %(end)s
            AND NOT EXISTS (SELECT FROM billing_statementline line WHERE line.adjustment = entry.id)))
"""

BEGINNING = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""Before any ledger's first entry."""


def write_lines(statement_id: int, tenant_id: int, *, start: dt.datetime, end: dt.datetime) -> None:
    """Add up what was posted to a tenant from `start` to before `end`, as lines of a draft. One query, one snapshot."""
    bounds: dict[str, int | dt.datetime] = {
        "statement_id": statement_id,
        "tenant_id": tenant_id,
        "start": start,
        "end": end,
    }
    with connection.cursor() as cursor:
        cursor.execute(WRITE_LINES, bounds)


def first_posted(tenant_id: int, *, start: dt.datetime | None, end: dt.datetime) -> dt.datetime | None:
    """When a tenant's first entry from `start` (or ever) to before `end` was posted; None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(FIRST_POSTED, {"tenant_id": tenant_id, "start": start or BEGINNING, "end": end})
        found: dt.datetime | None = cursor.fetchone()[0]
        return found


def database_now() -> dt.datetime:
    """The moment by the clock that entries are posted by."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: dt.datetime = cursor.fetchone()[0]
        return now
