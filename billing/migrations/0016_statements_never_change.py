from django.db import migrations

CONTENT = """
    tenant_id, tenant_name, kind, period, starts_at, ends_at, timezone, sequence, number, credits_id, reason, calls,
    unpriced_calls, subtotal_nano_usd, markup_basis_points, markup_nano_usd, rounding_nano_usd, total_cents,
    content_hash, made_at, issued_at, issued_by_id
"""
OLD = ", ".join(f"OLD.{name.strip()}" for name in CONTENT.split(","))
NEW = ", ".join(f"NEW.{name.strip()}" for name in CONTENT.split(","))

KEEP_STATEMENT = f"""
CREATE FUNCTION keep_issued_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'draft' THEN
        IF TG_OP = 'UPDATE' AND NEW.state = 'locked' THEN
            RAISE EXCEPTION 'a draft is issued before it is locked';
        END IF;
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.state = 'issued' AND NEW.state = 'locked' AND NEW.locked_at IS NOT NULL
        AND ({OLD}) IS NOT DISTINCT FROM ({NEW})
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'statement % is issued: it is neither edited nor deleted', OLD.number;
END $$
"""

# The statement's row is locked, so that a line cannot slip in while it is being issued.
KEEP_LINES = """
CREATE FUNCTION keep_issued_lines() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    held_state text;
    touched bigint := CASE TG_OP WHEN 'INSERT' THEN NEW.statement_id ELSE OLD.statement_id END;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.statement_id <> OLD.statement_id THEN
        RAISE EXCEPTION 'a line does not move to another statement';
    END IF;
    SELECT state INTO held_state FROM billing_statement WHERE id = touched FOR SHARE;
    IF held_state <> 'draft' THEN
        RAISE EXCEPTION 'statement % is issued: its lines stay as they are', touched;
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$
"""


def trigger(table, function, *, events):
    return migrations.RunSQL(
        f"CREATE TRIGGER {table}_kept BEFORE {events} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()",
        f"DROP TRIGGER {table}_kept ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("billing", "0015_statements")]

    operations = [
        migrations.RunSQL(KEEP_STATEMENT, "DROP FUNCTION keep_issued_statement()"),
        migrations.RunSQL(KEEP_LINES, "DROP FUNCTION keep_issued_lines()"),
        trigger("billing_statement", "keep_issued_statement", events="UPDATE OR DELETE"),
        trigger("billing_statementline", "keep_issued_lines", events="INSERT OR UPDATE OR DELETE"),
        trigger("billing_markup", "refuse_change", events="UPDATE OR DELETE"),
    ]
