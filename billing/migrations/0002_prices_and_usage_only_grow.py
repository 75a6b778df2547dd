from django.db import migrations

from tenants.config_triggers import announce

REFUSE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% only grows: rows are neither edited nor deleted', TG_TABLE_NAME;
END $$
"""


def only_grows(table, *, events):
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_only_grows BEFORE {events} ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        f"DROP TRIGGER {table}_only_grows ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("tenants", "0002_announce_changes")]

    operations = [
        announce("billing_price", "catalogue"),
        migrations.RunSQL(REFUSE, "DROP FUNCTION refuse_change()"),
        only_grows("billing_price", events="UPDATE OR DELETE"),
        # Retention deletes usage a month at a time by dropping its partition, never a row.
        only_grows("billing_usagerecord", events="UPDATE OR DELETE"),
    ]
