"""Requests added up by the hour, by the statement that writes them to the log."""

from django.db import migrations, models

STEP, LONGEST_MS = 1.2, 600_000


def edges():
    """As `gateway.desk.request_hours.EDGES_MS` has them."""
    found, edge = [1], 1.0
    while found[-1] < LONGEST_MS:
        edge *= STEP
        if round(edge) > found[-1]:
            found.append(round(edge))
    return found


def add_hours(rows):
    """In the order of the key, so that two batches never wait for each other. `left` are clients' ends, no failures."""
    left = "error_code NOT IN ('client_left', 'request_cancelled', 'server_stopped')"
    return f"""
    INSERT INTO gateway_requesthour AS known (starts_at, latency_bucket, calls, failed, refused, fell_back)
    SELECT date_trunc('hour', created_at, 'UTC'),
        CASE WHEN operation = 'realtime' THEN -1
            ELSE width_bucket(latency_ms, ARRAY[{", ".join(map(str, edges()))}]) END,
        count(*),
        count(*) FILTER (WHERE {left} AND (status >= 500 OR status < 400 AND error_code <> '')),
        count(*) FILTER (WHERE error_code <> '' AND status BETWEEN 400 AND 498 AND {left}),
        count(*) FILTER (WHERE CASE WHEN jsonb_typeof(attempts) <> 'array' THEN false
            WHEN jsonb_array_length(attempts) < 2 THEN false
            ELSE (SELECT count(DISTINCT one -> 'deployment') FROM jsonb_array_elements(attempts) AS one) > 1 END)
    FROM {rows}
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (starts_at, latency_bucket) DO UPDATE SET calls = known.calls + excluded.calls,
        failed = known.failed + excluded.failed, refused = known.refused + excluded.refused,
        fell_back = known.fell_back + excluded.fell_back"""


FUNCTION = f"""
CREATE FUNCTION gateway_add_request_hours() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN{add_hours("fresh")};
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER gateway_request_hours AFTER INSERT ON gateway_requestrecord
REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION gateway_add_request_hours()
"""


class Migration(migrations.Migration):
    dependencies = [("gateway", "0010_saved_views")]

    operations = [
        migrations.CreateModel(
            name="RequestHour",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("starts_at", models.DateTimeField()),
                ("latency_bucket", models.SmallIntegerField()),
                ("calls", models.BigIntegerField()),
                ("failed", models.BigIntegerField(help_text="Answered with 500 or more, or broken in mid-stream.")),
                ("refused", models.BigIntegerField(help_text="Answered with 400 to 498.")),
                ("fell_back", models.BigIntegerField(help_text="For which more than one deployment was asked.")),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("starts_at", "latency_bucket"), name="request_hour_once")
                ],
            },
        ),
        # A row is written again and again: with room beside it, its indexes are not.
        migrations.RunSQL("ALTER TABLE gateway_requesthour SET (fillfactor = 70)", migrations.RunSQL.noop),
        migrations.RunSQL(add_hours("gateway_requestrecord"), migrations.RunSQL.noop),
        migrations.RunSQL(FUNCTION, "DROP FUNCTION gateway_add_request_hours()"),
        migrations.RunSQL(TRIGGER, "DROP TRIGGER gateway_request_hours ON gateway_requestrecord"),
    ]
