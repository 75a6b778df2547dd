"""One more place a charge's figures may come from: an answer that was given again, for nothing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0018_made_hard")]

    operations = [
        migrations.AlterField(
            "usagerecord",
            "usage_source",
            models.CharField(
                choices=[
                    ("provider_final", "Reported by the provider"),
                    ("provider_partial", "Reported by the provider before its end"),
                    ("local_count", "Counted by the gateway"),
                    ("reserve_bound", "Quarantined: charged by the bound"),
                    ("unknown", "Unknown, not charged"),
                    ("cache", "Answered from the cache, not charged"),
                ],
                max_length=16,
            ),
        ),
    ]
