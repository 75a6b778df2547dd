"""All SQL of the ledger's hot path. Each statement takes one JSON array of rows, so a batch is one round trip."""

from __future__ import annotations

RESERVE = """
INSERT INTO billing_attempt (
    id, request_id, tenant_id, api_key_id, deployment_id, operation, model_name, provider_name,
    state, failure, created_at)
SELECT id, request_id, tenant_id, api_key_id, deployment_id, operation, model_name, provider_name,
    'open', '', created_at
FROM jsonb_to_recordset($1::jsonb) AS row(
    id uuid, request_id text, tenant_id bigint, api_key_id bigint, deployment_id bigint, operation text,
    model_name text, provider_name text, created_at timestamptz)
ON CONFLICT (id) DO NOTHING
"""
"""Repeating it is harmless: the ids are made by the caller."""

USAGE_COLUMNS = """
    created_at timestamptz, request_id text, tenant_id bigint, project_id bigint, api_key_id bigint, "user" text,
    conversation text, agent text, agent_type text, operation text, requested_model text, model_name text,
    provider_name text, upstream_model text, stream boolean, ending text, input_tokens bigint, output_tokens bigint,
    cache_read_tokens bigint, cache_write_tokens bigint, reasoning_tokens bigint, units jsonb, provider_usage jsonb,
    usage_source text, price_id bigint, cost_nano_usd bigint, latency_ms integer, first_content_ms integer
"""
_usage_names = ", ".join(column.strip().rpartition(" ")[0].strip() for column in USAGE_COLUMNS.split(","))

SETTLE = f"""
WITH row AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS row(attempt_id uuid, {USAGE_COLUMNS})
), ended AS (
    UPDATE billing_attempt SET state = 'settled', ended_at = clock_timestamp()
    FROM row WHERE billing_attempt.id = row.attempt_id AND billing_attempt.state = 'open'
    RETURNING billing_attempt.id
)
INSERT INTO billing_usagerecord (attempt_id, {_usage_names})
SELECT attempt_id, {_usage_names} FROM row JOIN ended ON ended.id = row.attempt_id
"""  # noqa: S608 -- built from the constant above, never from input
"""An attempt ends once: a row whose attempt is no longer open changes nothing and charges nothing."""

VOID = """
UPDATE billing_attempt SET state = 'voided', failure = row.failure, ended_at = clock_timestamp()
FROM jsonb_to_recordset($1::jsonb) AS row(attempt_id uuid, failure text)
WHERE billing_attempt.id = row.attempt_id AND billing_attempt.state = 'open'
"""
