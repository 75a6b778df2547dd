"""Calls with an idempotency key, and the function that says who makes one: atomic, in one round trip."""

import django.db.models.deletion
from django.db import migrations, models

CLAIM = """
CREATE FUNCTION idempotency_claim(asked jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    mine gateway_idempotentcall := jsonb_populate_record(NULL::gateway_idempotentcall, asked);
    held gateway_idempotentcall;
    still_open bigint;
    charged bigint;
    cost bigint;
BEGIN
    LOOP
        INSERT INTO gateway_idempotentcall (id, tenant_id, api_key_id, key_digest, request_digest, process, request_id,
            started_at, created_at, state, headers, body)
        VALUES (mine.id, mine.tenant_id, mine.api_key_id, mine.key_digest, mine.request_digest, mine.process,
            mine.request_id, mine.started_at, now(), 'running', '{}', '')
        ON CONFLICT (api_key_id, key_digest) DO NOTHING;
        IF FOUND THEN
            RETURN jsonb_build_object('state', 'claimed');
        END IF;
        SELECT * INTO held FROM gateway_idempotentcall
        WHERE api_key_id = mine.api_key_id AND key_digest = mine.key_digest FOR UPDATE;
        EXIT WHEN FOUND;  -- else it was released in between
    END LOOP;

    IF held.id = mine.id THEN  -- this question was asked before, and its answer lost
        RETURN jsonb_build_object('state', 'claimed');
    END IF;

    IF held.created_at > now() - interval '24 hours' THEN
        IF held.request_digest <> mine.request_digest THEN
            RETURN jsonb_build_object('state', 'other_request');
        END IF;
        IF held.state <> 'running' THEN
            RETURN to_jsonb(held);
        END IF;
        IF EXISTS (SELECT FROM billing_gatewayprocess WHERE id = held.process
            AND beat_at > now() - make_interval(secs => (asked->>'dead_after_seconds')::float8))
        THEN
            RETURN jsonb_build_object('state', 'running');
        END IF;
        -- Its process is dead. Money decides: what was charged is not called for again.
        SELECT count(*) FILTER (WHERE attempt.state = 'open'), count(*) FILTER (WHERE attempt.state = 'settled'),
            sum(usage.cost_nano_usd)
        INTO still_open, charged, cost
        FROM billing_attempt attempt LEFT JOIN billing_usagerecord usage ON usage.attempt_id = attempt.id
        WHERE attempt.request_id = held.request_id AND attempt.process = held.process
            AND attempt.api_key_id = held.api_key_id AND attempt.created_at >= held.started_at;
        IF still_open > 0 THEN
            RETURN jsonb_build_object('state', 'running');
        END IF;
        IF charged > 0 THEN
            UPDATE gateway_idempotentcall SET state = 'broken_off', cost_nano_usd = cost
            WHERE id = held.id RETURNING * INTO held;
            RETURN to_jsonb(held);
        END IF;
    END IF;

    UPDATE gateway_idempotentcall SET id = mine.id, request_digest = mine.request_digest, process = mine.process,
        request_id = mine.request_id, started_at = mine.started_at, created_at = now(), state = 'running',
        status = NULL, headers = '{}', body = '', cost_nano_usd = NULL
    WHERE id = held.id;
    RETURN jsonb_build_object('state', 'claimed');
END $$;
"""


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('billing', '0006_books_check'),
        ('tenants', '0004_usage_scope'),
    ]

    operations = [
        migrations.CreateModel(
            name='IdempotentCall',
            fields=[
                ('id', models.UUIDField(editable=False, help_text='Another one when another process takes it over.', primary_key=True, serialize=False)),
                ('key_digest', models.CharField(help_text="HMAC of the client's key.", max_length=64)),
                ('request_digest', models.CharField(help_text='HMAC of method, path and body.', max_length=64)),
                ('process', models.UUIDField(help_text='The process that makes the call.')),
                ('request_id', models.CharField(max_length=128)),
                ('started_at', models.DateTimeField(help_text="By its process's clock, as its attempts are.")),
                ('created_at', models.DateTimeField(db_index=True, help_text="By the database's clock. It counts for 24 hours.")),
                ('state', models.CharField(choices=[('running', 'Running'), ('answered', 'Answered'), ('too_large', 'Answered, too large to keep'), ('broken_off', 'Broken off after it had cost something')], max_length=16)),
                ('status', models.IntegerField(null=True)),
                ('headers', models.JSONField(default=dict)),
                ('body', models.TextField(blank=True, help_text="Sealed: an answer is the tenant's own.")),
                ('cost_nano_usd', models.BigIntegerField(help_text='Null for a model without a price.', null=True)),
                ('api_key', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.apikey')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ['-created_at'],
                'constraints': [models.UniqueConstraint(fields=('api_key', 'key_digest'), name='idempotent_call_once')],
            },
        ),
        migrations.RunSQL(CLAIM, "DROP FUNCTION idempotency_claim(jsonb)"),
    ]
