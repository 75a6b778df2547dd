"""Migration pieces that make configuration announce its changes.

A deferred trigger changes the topic's row in `ConfigRevision` when a change commits, whoever made it: the admin,
`apply`, a shell, plain SQL. Deferred, because a row lock taken at commit cannot deadlock with locks taken before.
"""

from __future__ import annotations

from django.db import migrations

FUNCTION = migrations.RunSQL(
    """
    CREATE FUNCTION raise_config_revision() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- The transaction's own number: unlike a counter it never comes back, not even after a restore.
        INSERT INTO tenants_configrevision (topic, value)
        VALUES (TG_ARGV[0], pg_current_xact_id()::text::bigint)
        ON CONFLICT (topic) DO UPDATE SET value = EXCLUDED.value;
        RETURN NULL;
    END $$
    """,
    "DROP FUNCTION raise_config_revision()",
)


def announce(table: str, topic: str) -> migrations.RunSQL:
    """The operation that makes a table's changes raise a topic's revision."""
    return migrations.RunSQL(
        f"CREATE CONSTRAINT TRIGGER {table}_revision AFTER INSERT OR UPDATE OR DELETE ON {table} "
        f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_config_revision('{topic}')",
        f"DROP TRIGGER {table}_revision ON {table}",
    )
