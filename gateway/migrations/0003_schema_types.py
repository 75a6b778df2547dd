"""Schema types. A published one never changes, and every process hears of a change."""

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from tenants.config_triggers import announce

KEEP_PUBLISHED = """
CREATE FUNCTION keep_published_type() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'draft' THEN
            RAISE EXCEPTION 'type %@% begins as a draft', NEW.name, NEW.version;
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.state = 'draft' THEN
        IF TG_OP = 'UPDATE' AND NEW.state = 'withdrawn' THEN
            RAISE EXCEPTION 'type %@% is published before it is withdrawn', NEW.name, NEW.version;
        END IF;
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'UPDATE' AND (OLD.state, NEW.state) IN (('published', 'published'), ('published', 'withdrawn'))
        AND (OLD.tenant_id, OLD.name, OLD.version, OLD.description, OLD.schema, OLD.created_at, OLD.published_at)
            IS NOT DISTINCT FROM
            (NEW.tenant_id, NEW.name, NEW.version, NEW.description, NEW.schema, NEW.created_at, NEW.published_at)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'type %@% is %: it is neither edited nor deleted', OLD.name, OLD.version, OLD.state;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [
        ("gateway", "0002_request_records"),
        ("tenants", "0005_notifications"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="SchemaType",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        help_text="Such as weather.query.",
                        max_length=120,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[a-z][a-z0-9_-]{0,49}(\\.[a-z][a-z0-9_-]{0,49}){0,3}\\Z",
                                "a name is one to four words of a-z, 0-9, _ and - with dots between them, such as weather.query.",
                            )
                        ],
                    ),
                ),
                (
                    "version",
                    models.PositiveIntegerField(
                        default=1,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000),
                        ],
                    ),
                ),
                (
                    "description",
                    models.CharField(
                        blank=True,
                        help_text="What it is for. Models read it where the type is a tool.",
                        max_length=1000,
                    ),
                ),
                (
                    "schema",
                    models.TextField(
                        help_text='JSON Schema 2020-12. Its members keep their order, which means something to models. Other types are referred to by "$ref": "type:NAME@VERSION".'
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("draft", "Draft"), ("published", "Published"), ("withdrawn", "Withdrawn")],
                        default="draft",
                        editable=False,
                        max_length=16,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("published_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("withdrawn_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "changed_by",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        help_text="Whose it is. Empty: every tenant's; a tenant's own type of the same name comes before it.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["name", "-version", "id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "name", "version"), name="schema_type_once_per_owner", nulls_distinct=False
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("version__gte", 1)), name="schema_type_version_from_one"
                    ),
                ],
            },
        ),
        migrations.RunSQL(KEEP_PUBLISHED, "DROP FUNCTION keep_published_type()"),
        migrations.RunSQL(
            "CREATE TRIGGER gateway_schematype_kept BEFORE INSERT OR UPDATE OR DELETE ON gateway_schematype "
            "FOR EACH ROW EXECUTE FUNCTION keep_published_type()",
            "DROP TRIGGER gateway_schematype_kept ON gateway_schematype",
        ),
        announce("gateway_schematype", "types"),
    ]
