"""A soft budget that is made hard begins with what its windows have: what it let through was no breach."""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION budget_made_hard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE billing_budgetwindow SET ceiling_nano_usd = greatest(ceiling_nano_usd, spent_nano_usd + reserved_nano_usd)
    WHERE budget_id = NEW.id;
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER budget_made_hard AFTER UPDATE OF hard ON billing_budget
FOR EACH ROW WHEN (NEW.hard AND NOT OLD.hard) EXECUTE FUNCTION budget_made_hard()
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0017_usage_not_reported")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION budget_made_hard()"),
        migrations.RunSQL(TRIGGER, "DROP TRIGGER budget_made_hard ON billing_budget"),
    ]
