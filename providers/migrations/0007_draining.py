"""Deployments that get no new calls while those under way go on."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("providers", "0006_model_lifecycle")]

    operations = [
        migrations.AddField(
            "deployment",
            "drained_at",
            models.DateTimeField(
                editable=False, help_text="Since when it gets no new calls; those under way go on.", null=True
            ),
        ),
        migrations.AddField(
            "deployment",
            "drained_until",
            models.DateTimeField(editable=False, help_text="Empty: until it is resumed.", null=True),
        ),
        migrations.AddField(
            "deployment",
            "drain_reason",
            models.CharField(blank=True, db_default="", default="", editable=False, max_length=500),
        ),
    ]
