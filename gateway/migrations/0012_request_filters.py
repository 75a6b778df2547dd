"""What requests are found by, and what each decision rested on. Rows that are there get what their attempts tell."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

FILL = """
UPDATE gateway_requestrecord SET
    model_name = coalesce(attempts->-1->>'model', requested_model),
    provider_name = coalesce(attempts->-1->>'provider', ''),
    fallback = (SELECT count(DISTINCT note->'deployment') > 1 FROM jsonb_array_elements(attempts) note)
"""
BY_TIME = ["-created_at", "-id"]
FAILED = ~models.Q(error_code="")


class Migration(migrations.Migration):
    # Indexes are built while requests are being written down.
    atomic = False

    dependencies = [("gateway", "0011_request_hours")]

    operations = [
        migrations.AddField(
            "requestrecord",
            "model_name",
            models.CharField(
                blank=True,
                db_default="",
                help_text="The model asked last; where none was, the one asked for.",
                max_length=200,
            ),
        ),
        migrations.AddField(
            "requestrecord",
            "provider_name",
            models.CharField(
                blank=True,
                db_default="",
                help_text="The provider asked last; empty where none was.",
                max_length=100,
            ),
        ),
        migrations.AddField(
            "requestrecord",
            "fallback",
            models.BooleanField(db_default=False, default=False, help_text="More than one deployment was asked."),
        ),
        migrations.AddField(
            "requestrecord",
            "cache",
            models.CharField(
                blank=True,
                db_default="",
                help_text="hit, miss or skip where a cache rule is about the call.",
                max_length=8,
            ),
        ),
        migrations.AddField(
            "requestrecord",
            "decision",
            models.JSONField(
                db_default={},
                default=dict,
                help_text="What the choice rested on: `gateway.context.Decision`. Sizes and names.",
            ),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        AddIndexConcurrently(
            "requestrecord",
            models.Index(fields=["tenant", *BY_TIME], condition=FAILED, name="request_failed_by_tenant"),
        ),
        AddIndexConcurrently("requestrecord", models.Index(fields=["api_key", *BY_TIME], name="request_by_key")),
        AddIndexConcurrently("requestrecord", models.Index(fields=["model_name", *BY_TIME], name="request_by_model")),
        AddIndexConcurrently(
            "requestrecord", models.Index(fields=["provider_name", *BY_TIME], name="request_by_provider")
        ),
        AddIndexConcurrently(
            "requestrecord",
            models.Index(fields=BY_TIME, condition=models.Q(fallback=True), name="request_fallback_by_time"),
        ),
        AddIndexConcurrently(
            "requestrecord",
            models.Index(fields=BY_TIME, condition=models.Q(cache="hit"), name="request_cached_by_time"),
        ),
    ]
