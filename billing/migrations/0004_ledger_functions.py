"""The ledger's verbs as functions: one round trip each for a whole batch, and budgets gated inside."""

from django.db import migrations

from tenants.config_triggers import announce

RESERVE = """
CREATE FUNCTION ledger_reserve(calls jsonb, caller uuid) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    call record;
    binding record;
    window_ids bigint[];
    headroom bigint;
    amount bigint;
    tokens bigint;
    answers jsonb := '[]';
BEGIN
    -- Calls that no budget is about: nothing to gate.
    INSERT INTO billing_attempt (id, request_id, tenant_id, api_key_id, deployment_id, operation, model_name,
        provider_name, state, failure, created_at, reserved_nano_usd, windows, max_output_tokens, process)
    SELECT id, request_id, tenant_id, api_key_id, deployment_id, operation, model_name,
        provider_name, 'open', '', created_at, 0, '{}', max_output_tokens, caller
    FROM jsonb_to_recordset(calls) AS row(id uuid, request_id text, tenant_id bigint, api_key_id bigint,
        deployment_id bigint, operation text, model_name text, provider_name text, created_at timestamptz,
        max_output_tokens bigint, holds jsonb)
    WHERE holds = '[]'
    ON CONFLICT (id) DO NOTHING;

    IF NOT calls @? '$[*].holds[*]' THEN
        RETURN answers;
    END IF;

    -- Periods that begin with one of these calls get their row.
    INSERT INTO billing_budgetwindow (budget_id, subject, starts_at, ends_at,
        spent_nano_usd, reserved_nano_usd, ceiling_nano_usd, overrun_nano_usd)
    SELECT DISTINCT hold.budget_id, hold.subject, hold.starts_at, hold.ends_at, 0, 0, 0, 0
    FROM jsonb_to_recordset(calls) AS row(holds jsonb),
        jsonb_to_recordset(row.holds) AS hold(budget_id bigint, subject text, starts_at timestamptz, ends_at timestamptz)
    WHERE NOT EXISTS (
        SELECT FROM billing_budgetwindow known WHERE known.budget_id = hold.budget_id
            AND known.subject = hold.subject AND known.starts_at = hold.starts_at)
    ORDER BY 1, 2, 3
    ON CONFLICT (budget_id, subject, starts_at) DO NOTHING;

    -- All rows of the batch are locked at once and in one order, so that no two batches wait for each other.
    PERFORM FROM billing_budgetwindow WHERE id IN (
        SELECT known.id FROM jsonb_to_recordset(calls) AS row(holds jsonb),
            jsonb_to_recordset(row.holds) AS hold(budget_id bigint, subject text, starts_at timestamptz),
            billing_budgetwindow known
        WHERE known.budget_id = hold.budget_id AND known.subject = hold.subject
            AND known.starts_at = hold.starts_at)
    ORDER BY id FOR NO KEY UPDATE;

    FOR call IN
        SELECT row.*, row_number() OVER () - 1 AS place
        FROM jsonb_to_recordset(calls) AS row(id uuid, request_id text, tenant_id bigint, api_key_id bigint,
            deployment_id bigint, operation text, model_name text, provider_name text, created_at timestamptz,
            fixed_nano_usd bigint, output_pico_usd bigint, max_output_tokens bigint, smallest_output_tokens bigint,
            may_shrink boolean, holds jsonb)
    LOOP
        CONTINUE WHEN call.holds = '[]';
        SELECT billing_attempt.max_output_tokens INTO tokens FROM billing_attempt WHERE billing_attempt.id = call.id;
        IF FOUND THEN  -- a batch that is sent again because its commit was not heard of
            answers := answers || jsonb_build_object('place', call.place, 'tokens', tokens);
            CONTINUE;
        END IF;

        SELECT array_agg(held.id ORDER BY held.id), min(held.room) FILTER (WHERE held.hard)
        INTO window_ids, headroom
        FROM ledger_windows(call.holds) AS held;

        tokens := call.max_output_tokens;
        amount := call.fixed_nano_usd + (call.output_pico_usd * tokens + 999) / 1000;
        IF amount > headroom AND call.may_shrink AND call.output_pico_usd > 0 THEN
            tokens := greatest((headroom - call.fixed_nano_usd) * 1000 / call.output_pico_usd, 0);
            IF tokens >= call.smallest_output_tokens THEN
                amount := call.fixed_nano_usd + (call.output_pico_usd * tokens + 999) / 1000;
            END IF;
        END IF;
        IF amount > headroom THEN
            SELECT held.* INTO binding FROM ledger_windows(call.holds) AS held
            WHERE held.hard AND held.room = headroom ORDER BY held.id LIMIT 1;
            answers := answers || jsonb_build_object('place', call.place, 'refused', jsonb_build_object(
                'scope', binding.scope, 'subject', binding.subject, 'period', binding.period,
                'limit_nano_usd', binding.ceiling, 'spent_nano_usd', binding.spent,
                'reserved_nano_usd', binding.reserved, 'needed_nano_usd', amount, 'resets_at', binding.ends_at));
            CONTINUE;
        END IF;

        UPDATE billing_budgetwindow known SET reserved_nano_usd = known.reserved_nano_usd + amount,
            ceiling_nano_usd = greatest(known.ceiling_nano_usd, held.ceiling)
        FROM ledger_windows(call.holds) AS held WHERE known.id = held.id;
        INSERT INTO billing_attempt (id, request_id, tenant_id, api_key_id, deployment_id, operation, model_name,
            provider_name, state, failure, created_at, reserved_nano_usd, windows, max_output_tokens, process)
        VALUES (call.id, call.request_id, call.tenant_id, call.api_key_id, call.deployment_id, call.operation,
            call.model_name, call.provider_name, 'open', '', call.created_at, amount, window_ids, tokens, caller);
        answers := answers || jsonb_build_object('place', call.place, 'tokens', tokens);
    END LOOP;
    RETURN answers;
END $$
"""

WINDOWS = """
CREATE FUNCTION ledger_windows(holds jsonb) RETURNS TABLE (id bigint, scope text, subject text, period text,
    hard boolean, ceiling bigint, spent bigint, reserved bigint, room bigint, ends_at timestamptz)
LANGUAGE sql AS $$
    SELECT held.id, budget.scope, held.subject, budget.period, budget.hard, ceiling.nano_usd,
        held.spent_nano_usd, held.reserved_nano_usd,
        ceiling.nano_usd - held.spent_nano_usd - held.reserved_nano_usd, held.ends_at
    FROM jsonb_to_recordset(holds) AS hold(budget_id bigint, subject text, starts_at timestamptz)
    JOIN billing_budgetwindow held ON held.budget_id = hold.budget_id AND held.subject = hold.subject
        AND held.starts_at = hold.starts_at
    JOIN billing_budget budget ON budget.id = held.budget_id
    CROSS JOIN LATERAL (
        SELECT budget.limit_nano_usd + coalesce(sum(extra.extra_nano_usd), 0)::bigint AS nano_usd
        FROM billing_budgetoverride extra WHERE extra.budget_id = budget.id AND extra.expires_at > now()) ceiling
$$
"""

RELEASE = """
CREATE FUNCTION ledger_release(ended jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    touched bigint[];
BEGIN
    SELECT array_agg(DISTINCT window_id) INTO touched
    FROM jsonb_to_recordset(ended) AS row(windows bigint[]), unnest(row.windows) AS window_id;
    IF touched IS NULL THEN
        RETURN;
    END IF;
    PERFORM FROM billing_budgetwindow WHERE id = ANY(touched) ORDER BY id FOR NO KEY UPDATE;
    UPDATE billing_budgetwindow held SET
        reserved_nano_usd = held.reserved_nano_usd - total.reserved,
        spent_nano_usd = held.spent_nano_usd + total.cost,
        overrun_nano_usd = held.overrun_nano_usd + total.overrun
    FROM (
        SELECT window_id, sum(row.reserved)::bigint AS reserved, sum(row.cost)::bigint AS cost,
            coalesce(sum(row.cost - row.reserved) FILTER (WHERE row.cost > row.reserved), 0)::bigint AS overrun
        FROM jsonb_to_recordset(ended) AS row(windows bigint[], reserved bigint, cost bigint),
            unnest(row.windows) AS window_id
        GROUP BY window_id) total
    WHERE held.id = total.window_id;
    INSERT INTO billing_budgetalert (window_id, percent, crossed_at)
    SELECT held.id, percent, now()
    FROM billing_budgetwindow held JOIN billing_budget budget ON budget.id = held.budget_id,
        unnest(budget.alert_at) AS percent
    WHERE held.id = ANY(touched) AND held.spent_nano_usd * 100 >= budget.limit_nano_usd * percent
    ON CONFLICT (window_id, percent) DO NOTHING;
END $$
"""

USAGE_COLUMNS = """
    created_at timestamptz, request_id text, tenant_id bigint, project_id bigint, api_key_id bigint, "user" text,
    conversation text, agent text, agent_type text, operation text, requested_model text, model_name text,
    provider_name text, upstream_model text, stream boolean, ending text, input_tokens bigint, output_tokens bigint,
    cache_read_tokens bigint, cache_write_tokens bigint, reasoning_tokens bigint, units jsonb, provider_usage jsonb,
    usage_source text, price_id bigint, cost_nano_usd bigint, latency_ms integer, first_content_ms integer
"""
USAGE_NAMES = ", ".join(column.strip().rpartition(" ")[0].strip() for column in USAGE_COLUMNS.split(","))

SETTLE = f"""
CREATE FUNCTION ledger_settle(charges jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ended jsonb;
BEGIN
    WITH ending AS (
        UPDATE billing_attempt SET state = 'settled', ended_at = clock_timestamp()
        FROM jsonb_to_recordset(charges) AS row(attempt_id uuid, cost_nano_usd bigint)
        WHERE billing_attempt.id = row.attempt_id AND billing_attempt.state = 'open'
        RETURNING billing_attempt.id, billing_attempt.windows, billing_attempt.reserved_nano_usd, row.cost_nano_usd
    )
    SELECT jsonb_agg(jsonb_build_object('id', id, 'windows', to_jsonb(windows), 'reserved', reserved_nano_usd,
        'cost', cost_nano_usd)) INTO ended FROM ending;
    IF ended IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO billing_usagerecord (attempt_id, {USAGE_NAMES})
    SELECT attempt_id, {USAGE_NAMES}
    FROM jsonb_to_recordset(charges) AS row(attempt_id uuid, {USAGE_COLUMNS})
    WHERE attempt_id IN (SELECT (one ->> 'id')::uuid FROM jsonb_array_elements(ended) AS one)
    ON CONFLICT (attempt_id) DO NOTHING;
    PERFORM ledger_release(ended);
END $$
"""

VOID = """
CREATE FUNCTION ledger_void(attempts jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ended jsonb;
BEGIN
    WITH ending AS (
        UPDATE billing_attempt SET state = 'voided', failure = row.failure, ended_at = clock_timestamp()
        FROM jsonb_to_recordset(attempts) AS row(attempt_id uuid, failure text)
        WHERE billing_attempt.id = row.attempt_id AND billing_attempt.state = 'open'
        RETURNING billing_attempt.windows, billing_attempt.reserved_nano_usd
    )
    SELECT jsonb_agg(jsonb_build_object('windows', to_jsonb(windows), 'reserved', reserved_nano_usd, 'cost', 0))
    INTO ended FROM ending;
    IF ended IS NOT NULL THEN
        PERFORM ledger_release(ended);
    END IF;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_budgets")]

    operations = [
        announce("billing_budget", "tenants"),
        migrations.RunSQL(WINDOWS, "DROP FUNCTION ledger_windows(jsonb)"),
        migrations.RunSQL(RESERVE, "DROP FUNCTION ledger_reserve(jsonb, uuid)"),
        migrations.RunSQL(RELEASE, "DROP FUNCTION ledger_release(jsonb)"),
        migrations.RunSQL(SETTLE, "DROP FUNCTION ledger_settle(jsonb)"),
        migrations.RunSQL(VOID, "DROP FUNCTION ledger_void(jsonb)"),
    ]
