import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from tenants.config_triggers import announce


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_announce_changes")]

    operations = [
        migrations.CreateModel(
            name="RateLimit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("tenant", "The whole tenant"),
                            ("project", "A project"),
                            ("user", "An end user"),
                            ("key", "An API key"),
                        ],
                        default="tenant",
                        max_length=16,
                    ),
                ),
                (
                    "subject",
                    models.CharField(
                        blank=True,
                        help_text="Which project, user or key, by name. Empty: each of them, counted on its own.",
                        max_length=256,
                    ),
                ),
                (
                    "requests_per_minute",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="In any 60 seconds.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10000000),
                        ],
                    ),
                ),
                (
                    "requests_per_day",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="In any 24 hours.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10000000),
                        ],
                    ),
                ),
                (
                    "tokens_per_minute",
                    models.PositiveBigIntegerField(
                        blank=True,
                        help_text="In and out together, in any 60 seconds.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10000000000),
                        ],
                    ),
                ),
                (
                    "tokens_per_day",
                    models.PositiveBigIntegerField(
                        blank=True,
                        help_text="In and out together, in any 24 hours.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10000000000),
                        ],
                    ),
                ),
                (
                    "concurrency",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Calls at the same time, streams until their end.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10000000),
                        ],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="rate_limits", to="tenants.tenant"
                    ),
                ),
            ],
            options={
                "ordering": ["tenant__name", "scope", "subject"],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "scope", "subject"), name="rate_limit_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("requests_per_minute__gte", 1), ("requests_per_minute", None), _connector="OR"),
                            models.Q(("requests_per_day__gte", 1), ("requests_per_day", None), _connector="OR"),
                            models.Q(("tokens_per_minute__gte", 1), ("tokens_per_minute", None), _connector="OR"),
                            models.Q(("tokens_per_day__gte", 1), ("tokens_per_day", None), _connector="OR"),
                            models.Q(("concurrency__gte", 1), ("concurrency", None), _connector="OR"),
                        ),
                        name="rate_limits_positive",
                    ),
                ],
            },
        ),
        announce("tenants_ratelimit", "tenants"),
    ]
