"""Ends are posted with the database's clock, added to the buckets, and corrected when a sweep was first."""

from django.db import migrations

USAGE_COLUMNS = """
    started_at timestamptz, request_id text, tenant_id bigint, project_id bigint, api_key_id bigint, "user" text,
    conversation text, agent text, agent_type text, operation text, requested_model text, model_name text,
    provider_name text, upstream_model text, stream boolean, ending text, input_tokens bigint, output_tokens bigint,
    cache_read_tokens bigint, cache_write_tokens bigint, reasoning_tokens bigint, units jsonb, provider_usage jsonb,
    usage_source text, price_id bigint, cost_nano_usd bigint, latency_ms integer, first_content_ms integer
"""
USAGE_NAMES = ", ".join(column.strip().rpartition(" ")[0].strip() for column in USAGE_COLUMNS.split(","))

ADJUST = """
CREATE FUNCTION ledger_adjust(adjustments jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved jsonb;
    entries billing_entry[];
BEGIN
    WITH posted AS (
        INSERT INTO billing_adjustment (id, tenant_id, attempt_id, kind, amount_nano_usd, reason, windows, project_id,
            api_key_id, "user", model_name, provider_name, created_at, created_by_id)
        SELECT id, tenant_id, attempt_id, kind, amount_nano_usd, reason, windows, project_id,
            api_key_id, "user", model_name, provider_name, now(), created_by_id
        FROM jsonb_to_recordset(adjustments) AS row(id uuid, tenant_id bigint, attempt_id uuid, kind text,
            amount_nano_usd bigint, reason text, windows bigint[], project_id bigint, api_key_id bigint, "user" text,
            model_name text, provider_name text, created_by_id bigint)
        ON CONFLICT (attempt_id) WHERE kind = 'correction' DO NOTHING
        RETURNING *
    )
    SELECT jsonb_agg(jsonb_build_object('windows', to_jsonb(windows), 'reserved', 0, 'cost', amount_nano_usd)),
        array_agg(ROW(id, now(), tenant_id, project_id, api_key_id, "user", model_name, provider_name, '',
            0, 0, 0, 0, 0, 0, 0, amount_nano_usd)::billing_entry)
    INTO moved, entries FROM posted;
    IF moved IS NOT NULL THEN
        PERFORM ledger_release(moved);
        PERFORM ledger_roll_up(entries);
    END IF;
END $$
"""

CORRECT = """
CREATE FUNCTION ledger_correct(said jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    owed jsonb;
BEGIN
    PERFORM FROM billing_attempt
    WHERE id IN (SELECT attempt_id FROM jsonb_to_recordset(said) AS row(attempt_id uuid)) AND swept
    ORDER BY id FOR NO KEY UPDATE;
    WITH late AS (
        SELECT DISTINCT ON (attempt_id) *
        FROM jsonb_to_recordset(said) AS row(attempt_id uuid, cost_nano_usd bigint, project_id bigint, "user" text)
    ), difference AS (
        SELECT attempt.id, attempt.tenant_id, attempt.api_key_id, attempt.model_name, attempt.provider_name,
            attempt.windows, coalesce(late.project_id, charge.project_id) AS project_id,
            coalesce(late."user", charge."user", '') AS "user", coalesce(late.cost_nano_usd, 0) AS cost,
            coalesce(charge.cost_nano_usd, 0) AS charged,
            coalesce((SELECT sum(amount_nano_usd) FROM billing_adjustment WHERE attempt_id = attempt.id), 0) AS adjusted
        FROM late JOIN billing_attempt attempt ON attempt.id = late.attempt_id
        LEFT JOIN billing_usagerecord charge
            ON charge.attempt_id = attempt.id AND charge.created_at = attempt.ended_at
        WHERE attempt.swept AND attempt.state <> 'open'
    ), correction AS (
        -- What an operator has credited already is not credited again.
        SELECT *, greatest(cost - charged, least(0, -(charged + adjusted))) AS amount FROM difference
    )
    SELECT jsonb_agg(jsonb_build_object('id', gen_random_uuid(), 'tenant_id', tenant_id, 'attempt_id', id,
        'kind', 'correction', 'amount_nano_usd', amount, 'windows', to_jsonb(windows), 'project_id', project_id,
        'api_key_id', api_key_id, 'user', "user", 'model_name', model_name, 'provider_name', provider_name,
        'reason', format('The call ended after a sweep had ended it: %s nano-USD, not %s.', cost, charged)))
    INTO owed FROM correction WHERE amount <> 0;
    IF owed IS NOT NULL THEN
        PERFORM ledger_adjust(owed);
    END IF;
END $$
"""

SETTLE = f"""
CREATE FUNCTION ledger_settle(charges jsonb, sweeping boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held jsonb;
    entries billing_entry[];
BEGIN
    WITH ending AS (
        UPDATE billing_attempt attempt SET state = 'settled', ended_at = now(), swept = sweeping
        FROM jsonb_to_recordset(charges) AS row(attempt_id uuid, {USAGE_COLUMNS})
        WHERE attempt.id = row.attempt_id AND attempt.state = 'open'
        RETURNING attempt.windows, attempt.reserved_nano_usd, row.*
    ), posted AS (
        INSERT INTO billing_usagerecord (attempt_id, created_at, {USAGE_NAMES})
        SELECT attempt_id, now(), {USAGE_NAMES} FROM ending
    )
    SELECT jsonb_agg(jsonb_build_object('windows', to_jsonb(windows), 'reserved', reserved_nano_usd,
            'cost', cost_nano_usd)) FILTER (WHERE windows <> '{{}}'),
        array_agg(ROW(attempt_id, now(), tenant_id, project_id, api_key_id, "user", model_name, provider_name, ending,
            1, (price_id IS NULL)::int, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
            reasoning_tokens, cost_nano_usd)::billing_entry)
    INTO held, entries FROM ending;
    IF held IS NOT NULL THEN
        PERFORM ledger_release(held);
    END IF;
    IF entries IS NOT NULL THEN
        PERFORM ledger_roll_up(entries);
    END IF;
    -- Some had ended before: sent again, which changes nothing, or after a sweep.
    IF NOT sweeping AND coalesce(cardinality(entries), 0) < jsonb_array_length(charges) THEN
        PERFORM ledger_correct(charges);
    END IF;
END $$
"""

VOID = """
CREATE FUNCTION ledger_void(attempts jsonb, sweeping boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held jsonb;
    ended bigint;
BEGIN
    WITH ending AS (
        UPDATE billing_attempt SET state = 'voided', failure = row.failure, ended_at = now(), swept = sweeping
        FROM jsonb_to_recordset(attempts) AS row(attempt_id uuid, failure text)
        WHERE billing_attempt.id = row.attempt_id AND billing_attempt.state = 'open'
        RETURNING billing_attempt.windows, billing_attempt.reserved_nano_usd
    )
    SELECT jsonb_agg(jsonb_build_object('windows', to_jsonb(windows), 'reserved', reserved_nano_usd, 'cost', 0))
        FILTER (WHERE windows <> '{}'), count(*)
    INTO held, ended FROM ending;
    IF held IS NOT NULL THEN
        PERFORM ledger_release(held);
    END IF;
    IF NOT sweeping AND ended < jsonb_array_length(attempts) THEN
        PERFORM ledger_correct(attempts);
    END IF;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0009_entries_and_rollups")]

    operations = [
        migrations.RunSQL("DROP FUNCTION ledger_settle(jsonb); DROP FUNCTION ledger_void(jsonb)"),
        migrations.RunSQL(ADJUST),
        migrations.RunSQL(CORRECT),
        migrations.RunSQL(SETTLE),
        migrations.RunSQL(VOID),
    ]
