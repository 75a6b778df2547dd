"""Every entry in one shape, the buckets they are added up in, and what the buckets of earlier entries come to."""

from django.db import migrations

SUMS = (
    "calls", "unpriced_calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "cost_nano_usd",
)  # fmt: skip
WHO = ("tenant_id", "starts_at", "project_id", "api_key_id", "model_name", "provider_name", "ending")
BUCKETS = (
    ("billing_usagehour", "hour", WHO),
    ("billing_usageday", "day", WHO),
    ("billing_userday", "day", ("tenant_id", "starts_at", '"user"')),
)

ENTRY = """
CREATE VIEW billing_entry AS
SELECT attempt_id AS id, created_at AS starts_at, tenant_id, project_id, api_key_id, "user", model_name, provider_name,
    ending, 1::bigint AS calls, (price_id IS NULL)::int::bigint AS unpriced_calls, input_tokens, output_tokens,
    cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_nano_usd
FROM billing_usagerecord
UNION ALL
SELECT id, created_at, tenant_id, project_id, api_key_id, "user", model_name, provider_name,
    '', 0, 0, 0, 0, 0, 0, 0, amount_nano_usd
FROM billing_adjustment
"""


def add_to_buckets(entries):
    """The statements that add entries to their buckets. In the order of the key, so that two batches never wait for
    each other: whoever has the first bucket gets the rest."""
    return "".join(
        f"""
    INSERT INTO {table} AS bucket ({", ".join(key)}, {", ".join(SUMS)})
    SELECT {", ".join(f"date_trunc('{unit}', starts_at, 'UTC')" if name == "starts_at" else name for name in key)},
        {", ".join(f"sum({name})" for name in SUMS)}
    FROM {entries} AS entry
    GROUP BY {", ".join(str(place) for place in range(1, len(key) + 1))}
    ORDER BY {", ".join(str(place) for place in range(1, len(key) + 1))}
    ON CONFLICT ({", ".join(key)}) DO UPDATE SET
        {", ".join(f"{name} = bucket.{name} + excluded.{name}" for name in SUMS)};"""
        for table, unit, key in BUCKETS
    )


ROLL_UP = f"""
CREATE FUNCTION ledger_roll_up(entries billing_entry[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN{add_to_buckets("unnest(entries)")}
END $$
"""

ROLL_UP_BETWEEN = f"""
CREATE FUNCTION ledger_roll_up_between(lower timestamptz, upper timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN{add_to_buckets("(SELECT * FROM billing_entry WHERE starts_at >= lower AND starts_at < upper)")}
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0008_adjustments_and_buckets")]

    operations = [
        migrations.RunSQL(
            "CREATE TRIGGER billing_adjustment_only_grows BEFORE UPDATE OR DELETE ON billing_adjustment "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()",
            "DROP TRIGGER billing_adjustment_only_grows ON billing_adjustment",
        ),
        # A bucket is written again and again: with room beside it, its indexes are not.
        *(
            migrations.RunSQL(f"ALTER TABLE {table} SET (fillfactor = 70)", migrations.RunSQL.noop)
            for table, _, _ in BUCKETS
        ),
        migrations.RunSQL(ENTRY, "DROP VIEW billing_entry"),
        migrations.RunSQL(ROLL_UP, "DROP FUNCTION ledger_roll_up(billing_entry[])"),
        migrations.RunSQL(ROLL_UP_BETWEEN, "DROP FUNCTION ledger_roll_up_between(timestamptz, timestamptz)"),
        migrations.RunSQL("SELECT ledger_roll_up_between('-infinity', 'infinity')", migrations.RunSQL.noop),
    ]
