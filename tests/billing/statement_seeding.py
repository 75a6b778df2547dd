"""Many ledger entries, fast: posted by plain SQL, as the ledger's own functions would leave them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.db import connection

from billing.models import UsageRecord
from tenants.models import Project, Tenant
from tests.factories import make_key, unique

# A tenth has no project, a twentieth costs the smallest amount there is, and a few fall on a midnight exactly.
ENTRIES = """
INSERT INTO billing_usagerecord (attempt_id, created_at, started_at, request_id, tenant_id, project_id, api_key_id,
    "user", conversation, agent, agent_type, operation, requested_model, model_name, provider_name, upstream_model,
    stream, ending, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, units,
    provider_usage, usage_source, price_id, cost_nano_usd, latency_ms, first_content_ms)
SELECT gen_random_uuid(), posted, posted, 'r' || number, tenant_id,
    CASE WHEN random() < 0.1 THEN NULL ELSE project_ids[1 + floor(random() * cardinality(project_ids))] END, key_id,
    'user-' || floor(random() * 5), '', '', '', 'chat', 'm', 'model-' || floor(random() * 3),
    'provider-' || floor(random() * 2), 'up', false, 'completed', floor(random() * 100000), floor(random() * 10000),
    floor(random() * 1000), 0, 0, '{}', '{}', 'provider_final', 1,
    CASE WHEN random() < 0.05 THEN 1 ELSE floor(random() * 5000000000) END, 100, NULL
FROM (
    SELECT number, 1 + floor(random() * cardinality(%(tenant_ids)s::bigint[]))::int AS place,
        CASE WHEN random() < 0.01 THEN date_trunc('hour', at) ELSE at END AS posted
    FROM (SELECT number, %(start)s::timestamptz + random() * (%(end)s::timestamptz - %(start)s::timestamptz) AS at
        FROM generate_series(1, %(count)s) AS number) AS moments
) AS rolled,
LATERAL (SELECT (%(tenant_ids)s::bigint[])[place] AS tenant_id, (%(key_ids)s::bigint[])[place] AS key_id) AS whose,
LATERAL (SELECT array_agg(id ORDER BY id) AS project_ids FROM tenants_project project
    WHERE project.tenant_id = whose.tenant_id) AS projects
"""


def make_tenants(count: int, *, zones: Sequence[str]) -> list[Tenant]:
    """Tenants with two projects and a key each, in time zones by turns."""
    tenants = []
    for number in range(count):
        tenant = Tenant.objects.create(name=unique("stated"), timezone=zones[number % len(zones)])
        Project.objects.create(tenant=tenant, name="web")
        Project.objects.create(tenant=tenant, name="app")
        make_key(tenant)
        tenants.append(tenant)
    return tenants


def post_entries(tenants: Sequence[Tenant], count: int, *, start: dt.datetime, end: dt.datetime) -> None:
    """Random entries of these tenants, posted at random moments between; the same ones each time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.42)")
        cursor.execute(
            ENTRIES,
            {
                "tenant_ids": [tenant.pk for tenant in tenants],
                "key_ids": [tenant.keys.get().pk for tenant in tenants],
                "count": count,
                "start": start,
                "end": end,
            },
        )


def post(tenant: Tenant, created_at: dt.datetime, **fields: object) -> UsageRecord:
    """One entry, by default of 1 USD."""
    values: dict[str, object] = {
        "request_id": unique("req"), "operation": "chat", "requested_model": "m", "model_name": "m",
        "provider_name": "p", "upstream_model": "up", "ending": "completed", "usage_source": "provider_final",
        "price_id": 1, "cost_nano_usd": 1_000_000_000, "input_tokens": 10, "output_tokens": 5, "api_key_id": 1,
    }  # fmt: skip
    values.update(fields)
    with connection.cursor() as cursor:
        cursor.execute("SELECT gen_random_uuid()")
        attempt_id = cursor.fetchone()[0]
    values.update(attempt_id=attempt_id, created_at=created_at, started_at=created_at)
    return UsageRecord.objects.create(tenant=tenant, **values)
