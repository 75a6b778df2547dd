"""Reserving for a whole batch at once where every budget has room for all of it.

Call by call, each budget's row was read three times and written once for every call of the batch, and locked for as
long. Now that is only done where a budget may not have room for all.
"""

from importlib import import_module

from django.db import migrations

CALL_BY_CALL = import_module("billing.migrations.0004_ledger_functions").RESERVE

ONE_BY_ONE = CALL_BY_CALL.replace("CREATE FUNCTION ledger_reserve(", "CREATE FUNCTION ledger_reserve_one_by_one(")

RESERVE = """
CREATE OR REPLACE FUNCTION ledger_reserve(calls jsonb, caller uuid) RETURNS jsonb LANGUAGE plpgsql
-- A plan is kept for as long as its connection: one made while the tables were empty must not read them whole later.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    window_ids bigint[];
    amounts bigint[];
    ceilings bigint[];
    all_fit boolean;
    answers jsonb;
BEGIN
    IF calls @? '$[*] ? (@.holds.size() == 0)' THEN
        -- Among calls that no budget is about, others are rare: both kinds in one batch are one tenant's and another's.
        RETURN ledger_reserve_one_by_one(calls, caller);
    END IF;

    -- All rows of the batch are locked at once and in one order, so that no two batches wait for each other. What is
    -- spent and held is read from the rows as they are once locked.
    WITH asked AS MATERIALIZED (
        SELECT row.id, row.fixed_nano_usd + (row.output_pico_usd * row.max_output_tokens + 999) / 1000 AS amount,
            row.holds
        FROM jsonb_to_recordset(calls) AS row(id uuid, fixed_nano_usd bigint, output_pico_usd bigint,
            max_output_tokens bigint, holds jsonb)
    ), needed AS MATERIALIZED (
        SELECT hold.budget_id, hold.subject, hold.starts_at, sum(asked.amount)::bigint AS amount
        FROM asked, jsonb_to_recordset(asked.holds) AS hold(budget_id bigint, subject text, starts_at timestamptz)
        GROUP BY 1, 2, 3
    ), locked AS MATERIALIZED (
        SELECT held.id, held.budget_id, held.spent_nano_usd + held.reserved_nano_usd AS taken, needed.amount
        FROM needed JOIN billing_budgetwindow held USING (budget_id, subject, starts_at)
        ORDER BY held.id FOR NO KEY UPDATE OF held
    )
    SELECT array_agg(locked.id), array_agg(locked.amount), array_agg(ceiling.nano_usd),
        count(*) = (SELECT count(*) FROM needed)
            AND bool_and(NOT budget.hard OR ceiling.nano_usd - locked.taken >= locked.amount)
            AND NOT EXISTS (SELECT FROM billing_attempt known WHERE known.id IN (SELECT asked.id FROM asked))
    INTO window_ids, amounts, ceilings, all_fit
    FROM locked JOIN billing_budget budget ON budget.id = locked.budget_id
    CROSS JOIN LATERAL (
        SELECT budget.limit_nano_usd + coalesce(sum(extra.extra_nano_usd), 0)::bigint AS nano_usd
        FROM billing_budgetoverride extra WHERE extra.budget_id = budget.id AND extra.expires_at > now()) ceiling;

    -- A budget may not have room for all, a period begins with this batch, or it is sent again.
    IF all_fit IS NOT TRUE THEN
        RETURN ledger_reserve_one_by_one(calls, caller);
    END IF;

    UPDATE billing_budgetwindow held SET reserved_nano_usd = held.reserved_nano_usd + more.amount,
        ceiling_nano_usd = greatest(held.ceiling_nano_usd, more.ceiling)
    FROM unnest(window_ids, amounts, ceilings) AS more(id, amount, ceiling) WHERE held.id = more.id;
    WITH asked AS MATERIALIZED (
        SELECT row.*, row_number() OVER () - 1 AS place
        FROM jsonb_to_recordset(calls) AS row(id uuid, request_id text, tenant_id bigint, api_key_id bigint,
            deployment_id bigint, operation text, model_name text, provider_name text, created_at timestamptz,
            fixed_nano_usd bigint, output_pico_usd bigint, max_output_tokens bigint, holds jsonb)
    ), attempted AS (
        INSERT INTO billing_attempt (id, request_id, tenant_id, api_key_id, deployment_id, operation, model_name,
            provider_name, state, failure, created_at, reserved_nano_usd, windows, max_output_tokens, process)
        SELECT id, request_id, tenant_id, api_key_id, deployment_id, operation, model_name, provider_name, 'open',
            '', created_at, fixed_nano_usd + (output_pico_usd * max_output_tokens + 999) / 1000,
            CASE WHEN jsonb_array_length(holds) = cardinality(window_ids) THEN (
                SELECT array_agg(one ORDER BY one) FROM unnest(window_ids) AS one)
            ELSE (
                SELECT array_agg(held.id ORDER BY held.id)
                FROM jsonb_to_recordset(holds) AS hold(budget_id bigint, subject text, starts_at timestamptz)
                JOIN billing_budgetwindow held USING (budget_id, subject, starts_at))
            END, max_output_tokens, caller
        FROM asked
    )
    SELECT jsonb_agg(jsonb_build_object('place', place, 'tokens', max_output_tokens)) INTO answers FROM asked;
    RETURN answers;
END $$
"""

FLUSHING = """
-- A commit that waits for the disk holds its locks meanwhile, so all calls of a busy tenant would wait for the disk one
-- after the other. These let go of the locks first; what they return is on the disk all the same: an empty message in
-- the log is committed after it, and waited for.
CREATE PROCEDURE ledger_reserve_and_flush(calls jsonb, caller uuid, INOUT answers jsonb) LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL synchronous_commit = off;
    answers := ledger_reserve(calls, caller);
    COMMIT;
    PERFORM pg_logical_emit_message(true, 'bursar', '');
END $$;
CREATE PROCEDURE ledger_settle_and_flush(charges jsonb) LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL synchronous_commit = off;
    PERFORM ledger_settle(charges);
    COMMIT;
    PERFORM pg_logical_emit_message(true, 'bursar', '');
END $$;
"""
NOT_FLUSHING = "DROP PROCEDURE ledger_reserve_and_flush(jsonb, uuid, jsonb); DROP PROCEDURE ledger_settle_and_flush(jsonb)"


class Migration(migrations.Migration):
    dependencies = [("billing", "0022_desk_indexes")]

    operations = [
        migrations.RunSQL(ONE_BY_ONE, "DROP FUNCTION ledger_reserve_one_by_one(jsonb, uuid)"),
        migrations.RunSQL(RESERVE, CALL_BY_CALL.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")),
        migrations.RunSQL(FLUSHING, NOT_FLUSHING),
    ]
