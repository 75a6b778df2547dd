"""Whether providers answer, and which models they list."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("providers", "0004_routing"),
    ]

    operations = [
        migrations.CreateModel(
            name="OfferedModel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("upstream_model", models.CharField(help_text="What the provider calls it.", max_length=200)),
                ("display_name", models.CharField(blank=True, max_length=200)),
                ("context_window", models.PositiveIntegerField(blank=True, null=True)),
                ("max_output_tokens", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[("new", "New"), ("known", "Known"), ("ignored", "Ignored"), ("gone", "Gone")],
                        default="new",
                        max_length=8,
                    ),
                ),
                ("first_seen_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("last_seen_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="offered_models",
                        to="providers.provider",
                    ),
                ),
            ],
            options={
                "verbose_name": "listed model",
                "ordering": ["provider__name", "upstream_model"],
                "constraints": [
                    models.UniqueConstraint(fields=("provider", "upstream_model"), name="offered_model_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="ProviderHealth",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "status",
                    models.CharField(
                        choices=[("ok", "OK"), ("failing", "Failing"), ("unknown", "Unknown")],
                        default="unknown",
                        max_length=8,
                    ),
                ),
                ("checked_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "latency_ms",
                    models.PositiveIntegerField(help_text="Until the head of its answer; empty: none came.", null=True),
                ),
                (
                    "average_latency_ms",
                    models.PositiveIntegerField(help_text="Moving average of the last ten or so.", null=True),
                ),
                ("last_error", models.CharField(blank=True, max_length=500)),
                ("last_error_at", models.DateTimeField(null=True)),
                ("failures_in_a_row", models.PositiveIntegerField(default=0)),
                (
                    "credential",
                    models.ForeignKey(
                        help_text="Empty: asked without one.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="health",
                        to="providers.credential",
                    ),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="health", to="providers.provider"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "health",
                "ordering": ["provider__name", "credential__name"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider", "credential"), name="provider_health_once", nulls_distinct=False
                    )
                ],
            },
        ),
    ]
