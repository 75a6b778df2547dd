"""Audit events: one chain for each tenant and one of the platform, by month, only growing."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

GENESIS = "0" * 64

FACTS = """
    tenant_id bigint,
    happened_at timestamptz NOT NULL,
    event varchar(64) NOT NULL,
    actor_kind varchar(8) NOT NULL,
    actor_id bigint,
    actor varchar(150) NOT NULL,
    address varchar(45) NOT NULL,
    object_type varchar(64) NOT NULL,
    object_id varchar(128) NOT NULL,
    object_name varchar(200) NOT NULL,
    data text NOT NULL
"""

EVENTS = f"""
CREATE SEQUENCE tenants_auditevent_id_seq;
CREATE TABLE tenants_auditevent (
    id bigint NOT NULL DEFAULT nextval('tenants_auditevent_id_seq'),
    sequence bigint NOT NULL,
    created_at timestamptz NOT NULL,
    digest varchar(64) NOT NULL,
    {FACTS},
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
ALTER SEQUENCE tenants_auditevent_id_seq OWNED BY tenants_auditevent.id;
CREATE INDEX audit_by_tenant ON tenants_auditevent (tenant_id, created_at DESC, id DESC);
CREATE INDEX audit_by_time ON tenants_auditevent (created_at DESC, id DESC);
-- A call is found by its tenant and time: what operators do is the little that is looked for by who and what.
CREATE INDEX audit_by_actor ON tenants_auditevent (actor, created_at DESC, id DESC) WHERE actor_kind <> 'key';
CREATE INDEX audit_by_object ON tenants_auditevent (object_type, object_id, created_at DESC) WHERE actor_kind <> 'key';
CREATE TABLE tenants_auditevent_default PARTITION OF tenants_auditevent DEFAULT;
"""

REFUSE = """
CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% only grows: rows are neither edited nor deleted', TG_TABLE_NAME;
END $$;
CREATE TRIGGER tenants_auditevent_only_grows BEFORE UPDATE OR DELETE ON tenants_auditevent
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE FUNCTION audit_refuse_step_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.chain <> OLD.chain OR NEW.sequence < OLD.sequence
        OR NEW.base_sequence < OLD.base_sequence OR (NEW.sequence = OLD.sequence AND NEW.digest <> OLD.digest) THEN
        RAISE EXCEPTION 'an audit chain goes only forward';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tenants_auditchain_only_forward BEFORE UPDATE OR DELETE ON tenants_auditchain
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_step_back();
"""

PARTITIONS = """
CREATE FUNCTION audit_make_partitions(since timestamptz, months integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    starts timestamp;
    lower timestamptz;
    upper timestamptz;
    name text;
    made integer := 0;
BEGIN
    FOR month IN 0 .. months - 1 LOOP
        starts := date_trunc('month', since AT TIME ZONE 'UTC') + month * interval '1 month';
        name := 'tenants_auditevent_' || to_char(starts, 'YYYY_MM');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        lower := starts AT TIME ZONE 'UTC';
        upper := (starts + interval '1 month') AT TIME ZONE 'UTC';
        LOCK TABLE tenants_auditevent IN SHARE ROW EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE %I (LIKE tenants_auditevent INCLUDING DEFAULTS)', name);
        IF EXISTS (SELECT FROM tenants_auditevent_default WHERE created_at >= lower AND created_at < upper) THEN
            -- Moved, not changed: the trigger cannot tell.
            ALTER TABLE tenants_auditevent_default DISABLE TRIGGER tenants_auditevent_only_grows;
            EXECUTE format('INSERT INTO %I SELECT * FROM tenants_auditevent_default
                WHERE created_at >= %L AND created_at < %L', name, lower, upper);
            DELETE FROM tenants_auditevent_default WHERE created_at >= lower AND created_at < upper;
            ALTER TABLE tenants_auditevent_default ENABLE TRIGGER tenants_auditevent_only_grows;
        END IF;
        EXECUTE format('ALTER TABLE tenants_auditevent ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, lower, upper);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
SELECT audit_make_partitions(now(), 4);
"""

APPEND = f"""
CREATE FUNCTION audit_micros(moment timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (extract(epoch FROM moment) * 1000000)::bigint
$$;

-- What is hashed: a JSON array, so that no two rows have one form and anybody can write it. gateway/audit/verification.py
-- writes the same in Python.
CREATE FUNCTION audit_digest(before text, place tenants_auditevent) RETURNS varchar LANGUAGE sql STABLE AS $$
    SELECT encode(sha256(convert_to(json_build_array(before, coalesce(place.tenant_id, 0), place.sequence,
        audit_micros(place.created_at), audit_micros(place.happened_at), place.event, place.actor_kind, place.actor_id,
        place.actor, place.address, place.object_type, place.object_id, place.object_name, place.data)::text,
        'UTF8')), 'hex')
$$;

-- Gives events their places, whichever process they come from, and returns how many. Chains are locked one after the
-- other by number, so that two batches never wait for one another in a circle.
CREATE FUNCTION audit_append(given json) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    head tenants_auditchain;
    place tenants_auditevent;
    places tenants_auditevent[] := '{{}}';
    moment timestamptz;
    fact record;
BEGIN
    FOR fact IN
        SELECT coalesce(told.tenant_id, 0) AS chain, told.* FROM ROWS FROM (json_to_recordset(given) AS ({FACTS.replace(" NOT NULL", "")}))
            WITH ORDINALITY AS told(tenant_id, happened_at, event, actor_kind, actor_id, actor, address, object_type,
                object_id, object_name, data, position)
        ORDER BY 1, told.position
    LOOP
        IF head.chain IS DISTINCT FROM fact.chain THEN
            IF head.chain IS NOT NULL THEN
                UPDATE tenants_auditchain SET sequence = head.sequence, digest = head.digest, appended_at = moment
                WHERE chain = head.chain;
            END IF;
            SELECT * INTO head FROM tenants_auditchain WHERE chain = fact.chain FOR UPDATE;
            IF NOT FOUND THEN
                INSERT INTO tenants_auditchain (chain) VALUES (fact.chain) ON CONFLICT DO NOTHING;
                SELECT * INTO head FROM tenants_auditchain WHERE chain = fact.chain FOR UPDATE;
            END IF;
            moment := greatest(clock_timestamp(), head.appended_at);  -- a clock that is set back must not reorder
        END IF;
        head.sequence := head.sequence + 1;
        place := (nextval('tenants_auditevent_id_seq'), head.sequence, moment, '', fact.tenant_id, fact.happened_at,
            fact.event, fact.actor_kind, fact.actor_id, fact.actor, fact.address, fact.object_type, fact.object_id,
            fact.object_name, fact.data);
        head.digest := audit_digest(head.digest, place);
        place.digest := head.digest;
        places := places || place;
    END LOOP;
    IF head.chain IS NOT NULL THEN
        UPDATE tenants_auditchain SET sequence = head.sequence, digest = head.digest, appended_at = moment
        WHERE chain = head.chain;
        INSERT INTO tenants_auditevent SELECT * FROM unnest(places);
    END IF;
    RETURN cardinality(places);
END $$;
"""

DRAFTS = """
CREATE FUNCTION audit_append_drafts() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    taken json;
BEGIN
    WITH gone AS (DELETE FROM tenants_auditdraft RETURNING *) SELECT json_agg(gone ORDER BY id) INTO taken FROM gone;
    IF taken IS NOT NULL THEN
        PERFORM audit_append(taken);
    END IF;
    RETURN NULL;
END $$;
-- At commit: the chain is locked for an instant, and after all that the transaction itself has locked.
CREATE CONSTRAINT TRIGGER tenants_auditdraft_chained AFTER INSERT ON tenants_auditdraft
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_append_drafts();
"""

KINDS = [('operator', 'Operator'), ('key', 'API key'), ('system', 'The platform itself'), ('nobody', 'Somebody unknown')]


def facts():
    return [
        ('happened_at', models.DateTimeField(help_text='By the clock of the process that saw it.')),
        ('event', models.CharField(help_text='What happened, such as request.completed or tenant.suspended.', max_length=64)),
        ('actor_kind', models.CharField(choices=KINDS, max_length=8)),
        ('actor_id', models.BigIntegerField(null=True)),
        ('actor', models.CharField(blank=True, help_text='Their name at that time.', max_length=150)),
        ('address', models.CharField(blank=True, help_text="Where an operator's request came from.", max_length=45)),
        ('object_type', models.CharField(max_length=64)),
        ('object_id', models.CharField(max_length=128)),
        ('object_name', models.CharField(blank=True, max_length=200)),
        ('data', models.TextField(help_text='The details as JSON, kept as the text that was hashed.')),
        ('tenant', models.ForeignKey(db_constraint=False, db_index=False, help_text="Whose it is; empty for the platform's.", null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.tenant')),
    ]


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_notifications")]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='keep_text_days',
            field=models.PositiveSmallIntegerField(default=0, help_text='For so many days, encrypted, for owners to read. 0: no text of a call is ever stored.', validators=[django.core.validators.MaxValueValidator(366)], verbose_name='keep prompts and answers'),
        ),
        migrations.CreateModel(
            name='AuditChain',
            fields=[
                ('chain', models.BigIntegerField(help_text="The tenant's id; 0 for the platform.", primary_key=True, serialize=False)),
                ('sequence', models.BigIntegerField(db_default=0, default=0)),
                ('digest', models.CharField(db_default=GENESIS, default=GENESIS, max_length=64)),
                ('appended_at', models.DateTimeField(null=True)),
                ('base_sequence', models.BigIntegerField(db_default=0, default=0, help_text='The last event whose month was dropped.')),
                ('base_digest', models.CharField(db_default=GENESIS, default=GENESIS, max_length=64)),
            ],
            options={'verbose_name': 'audit chain', 'ordering': ['chain']},
        ),
        migrations.CreateModel(
            name='AuditDraft',
            fields=[*facts(), ('id', models.BigAutoField(primary_key=True, serialize=False))],
            options={'verbose_name': 'audit draft'},
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(EVENTS),
                migrations.RunSQL(REFUSE),
                migrations.RunSQL(PARTITIONS),
                migrations.RunSQL(APPEND),
                migrations.RunSQL(DRAFTS),
            ],
            state_operations=[
                migrations.CreateModel(
                    name='AuditEvent',
                    fields=[
                        *facts(),
                        ('id', models.BigAutoField(primary_key=True, serialize=False)),
                        ('sequence', models.BigIntegerField(help_text='Its place in its chain, from 1.')),
                        ('created_at', models.DateTimeField(help_text="When it was chained, by the database's clock.")),
                        ('digest', models.CharField(help_text='SHA-256 over the digest before it and all its columns.', max_length=64)),
                    ],
                    options={
                        'verbose_name': 'audit event',
                        'ordering': ['-created_at', '-id'],
                        'indexes': [
                            models.Index(fields=['tenant', '-created_at', '-id'], name='audit_by_tenant'),
                            models.Index(fields=['-created_at', '-id'], name='audit_by_time'),
                            models.Index(condition=models.Q(('actor_kind', 'key'), _negated=True), fields=['actor', '-created_at', '-id'], name='audit_by_actor'),
                            models.Index(condition=models.Q(('actor_kind', 'key'), _negated=True), fields=['object_type', 'object_id', '-created_at'], name='audit_by_object'),
                        ],
                    },
                ),
            ],
        ),
    ]
