"""An attempt's hold may grow while it is open: a voice session pays from a lease that is renewed."""

from django.db import migrations

EXTEND = """
CREATE FUNCTION ledger_extend(extensions jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    one record;
    binding record;
    held_in jsonb;
    headroom bigint;
    amount bigint;
    tokens bigint;
    answers jsonb := '[]';
BEGIN
    -- Attempts before windows, as settling does.
    PERFORM FROM billing_attempt
    WHERE id IN (SELECT attempt_id FROM jsonb_to_recordset(extensions) AS row(attempt_id uuid))
    ORDER BY id FOR NO KEY UPDATE;
    PERFORM FROM billing_budgetwindow WHERE id IN (
        SELECT unnest(attempt.windows) FROM jsonb_to_recordset(extensions) AS row(attempt_id uuid)
        JOIN billing_attempt attempt ON attempt.id = row.attempt_id)
    ORDER BY id FOR NO KEY UPDATE;

    FOR one IN
        SELECT row.*, attempt.windows, attempt.state
        FROM jsonb_to_recordset(extensions) AS row(attempt_id uuid, fixed_nano_usd bigint, output_pico_usd bigint,
            max_output_tokens bigint, smallest_output_tokens bigint)
        JOIN billing_attempt attempt ON attempt.id = row.attempt_id
    LOOP
        IF one.state <> 'open' THEN
            answers := answers || jsonb_build_object('attempt_id', one.attempt_id, 'is_open', false);
            CONTINUE;
        END IF;
        SELECT coalesce(jsonb_agg(jsonb_build_object('budget_id', held.budget_id, 'subject', held.subject,
            'starts_at', held.starts_at)), '[]')
        INTO held_in FROM billing_budgetwindow held WHERE held.id = ANY(one.windows);
        SELECT min(held.room) FILTER (WHERE held.hard) INTO headroom FROM ledger_windows(held_in) AS held;

        tokens := one.max_output_tokens;
        amount := one.fixed_nano_usd + (one.output_pico_usd * tokens + 999) / 1000;
        IF amount > headroom AND one.output_pico_usd > 0 THEN
            tokens := greatest((headroom - one.fixed_nano_usd) * 1000 / one.output_pico_usd, 0);
            IF tokens >= one.smallest_output_tokens THEN
                amount := one.fixed_nano_usd + (one.output_pico_usd * tokens + 999) / 1000;
            END IF;
        END IF;
        IF amount > headroom THEN
            SELECT held.* INTO binding FROM ledger_windows(held_in) AS held
            WHERE held.hard AND held.room = headroom ORDER BY held.id LIMIT 1;
            answers := answers || jsonb_build_object('attempt_id', one.attempt_id, 'refused', jsonb_build_object(
                'scope', binding.scope, 'subject', binding.subject, 'period', binding.period,
                'limit_nano_usd', binding.ceiling, 'spent_nano_usd', binding.spent,
                'reserved_nano_usd', binding.reserved, 'needed_nano_usd', amount, 'resets_at', binding.ends_at));
            CONTINUE;
        END IF;

        UPDATE billing_budgetwindow known SET reserved_nano_usd = known.reserved_nano_usd + amount,
            ceiling_nano_usd = greatest(known.ceiling_nano_usd, held.ceiling)
        FROM ledger_windows(held_in) AS held WHERE known.id = held.id;
        UPDATE billing_attempt SET reserved_nano_usd = reserved_nano_usd + amount,
            max_output_tokens = coalesce(max_output_tokens, 0) + tokens
        WHERE id = one.attempt_id;
        answers := answers || jsonb_build_object('attempt_id', one.attempt_id, 'tokens', tokens, 'nano_usd', amount);
    END LOOP;
    RETURN answers;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0019_cached_answers")]

    operations = [migrations.RunSQL(EXTEND, "DROP FUNCTION ledger_extend(jsonb)")]
