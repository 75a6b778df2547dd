"""Charges bear the moment they were posted, and lie in one partition for each month of it."""

import django.db.models.deletion
from django.db import migrations, models

MAKE_PARTITIONS = """
CREATE FUNCTION ledger_make_partitions(since timestamptz, months integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    starts timestamp;
    lower timestamptz;
    upper timestamptz;
    name text;
    made integer := 0;
BEGIN
    FOR month IN 0 .. months - 1 LOOP
        starts := date_trunc('month', since AT TIME ZONE 'UTC') + month * interval '1 month';
        name := 'billing_usagerecord_' || to_char(starts, 'YYYY_MM');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        lower := starts AT TIME ZONE 'UTC';
        upper := (starts + interval '1 month') AT TIME ZONE 'UTC';
        -- A charge that is being routed into the default partition would be refused by the new one's bounds.
        LOCK TABLE billing_usagerecord IN SHARE ROW EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE %I (LIKE billing_usagerecord)', name);
        IF EXISTS (SELECT FROM billing_usagerecord_default WHERE created_at >= lower AND created_at < upper) THEN
            -- Moved, not changed: the trigger cannot tell.
            ALTER TABLE billing_usagerecord_default DISABLE TRIGGER billing_usagerecord_only_grows;
            EXECUTE format('INSERT INTO %I SELECT * FROM billing_usagerecord_default
                WHERE created_at >= %L AND created_at < %L', name, lower, upper);
            DELETE FROM billing_usagerecord_default WHERE created_at >= lower AND created_at < upper;
            ALTER TABLE billing_usagerecord_default ENABLE TRIGGER billing_usagerecord_only_grows;
        END IF;
        EXECUTE format('ALTER TABLE billing_usagerecord ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, lower, upper);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$
"""

KEPT_FROM = """
CREATE FUNCTION ledger_kept_from() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT min(to_date(right(month.relname, 7), 'YYYY_MM'))::timestamp AT TIME ZONE 'UTC'
    FROM pg_inherits JOIN pg_class month ON month.oid = inhrelid
    WHERE inhparent = 'billing_usagerecord'::regclass AND month.relname <> 'billing_usagerecord_default'
$$
"""

PARTITION = """
ALTER TABLE billing_usagerecord RENAME TO billing_usage_whole;
ALTER TABLE billing_usage_whole DROP CONSTRAINT billing_usagerecord_pkey;
DROP INDEX usage_by_tenant, usage_by_time, usage_by_request;
CREATE TABLE billing_usagerecord (LIKE billing_usage_whole, started_at timestamptz NOT NULL)
    PARTITION BY RANGE (created_at);
-- A partition is found by its bounds, so they are in the key. That an attempt has one charge is its state's doing.
ALTER TABLE billing_usagerecord ADD PRIMARY KEY (attempt_id, created_at);
CREATE INDEX usage_by_tenant ON billing_usagerecord (tenant_id, created_at DESC, attempt_id DESC);
CREATE INDEX usage_by_time ON billing_usagerecord (created_at DESC, attempt_id DESC);
CREATE INDEX usage_by_request ON billing_usagerecord (request_id);
CREATE TRIGGER billing_usagerecord_only_grows BEFORE UPDATE OR DELETE ON billing_usagerecord
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
-- The net under the months: a charge is never refused because nobody has made its month.
CREATE TABLE billing_usagerecord_default PARTITION OF billing_usagerecord DEFAULT;
"""

COLUMNS = """
    attempt_id, request_id, tenant_id, project_id, api_key_id, "user", conversation, agent, agent_type, operation,
    requested_model, model_name, provider_name, upstream_model, stream, ending, input_tokens, output_tokens,
    cache_read_tokens, cache_write_tokens, reasoning_tokens, units, provider_usage, usage_source, price_id,
    cost_nano_usd, latency_ms, first_content_ms
"""

MOVE = f"""
SELECT ledger_make_partitions(since, 4 + 12 * extract(year FROM age(now(), since))::int
    + extract(month FROM age(now(), since))::int)
FROM (SELECT least(min(created_at), now()) AS since FROM billing_usage_whole) AS oldest;
INSERT INTO billing_usagerecord (created_at, started_at, {COLUMNS})
SELECT coalesce(ended_at, whole.created_at), whole.created_at, {COLUMNS.replace("attempt_id", "whole.attempt_id")}
FROM (SELECT whole.*, attempt.ended_at FROM billing_usage_whole whole
    LEFT JOIN billing_attempt attempt ON attempt.id = whole.attempt_id) AS whole;
DROP TABLE billing_usage_whole;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_books_check"), ("providers", "0002_announce_changes"), ("tenants", "0004_usage_scope")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(PARTITION),
                migrations.RunSQL(MAKE_PARTITIONS),
                migrations.RunSQL(KEPT_FROM),
                migrations.RunSQL(MOVE),
            ],
            state_operations=[
                migrations.AddField(
                    model_name="usagerecord",
                    name="started_at",
                    field=models.DateTimeField(help_text="When the client asked, by the gateway's clock."),
                    preserve_default=False,
                ),
                migrations.AlterField(
                    model_name="usagerecord",
                    name="created_at",
                    field=models.DateTimeField(help_text="When it was posted, by the database's clock."),
                ),
                migrations.AlterField(
                    model_name='usagerecord',
                    name='api_key',
                    field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.apikey'),
                ),
                migrations.AlterField(
                    model_name='usagerecord',
                    name='price',
                    field=models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='billing.price'),
                ),
                migrations.AlterField(
                    model_name='usagerecord',
                    name='project',
                    field=models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.project'),
                ),
                migrations.AlterField(
                    model_name='usagerecord',
                    name='tenant',
                    field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.tenant'),
                ),
            ],
        ),
    ]
