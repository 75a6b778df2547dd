"""Two more places a charge's figures may come from: reported in part, and the bound that was held."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0013_price_proposals")]

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
                ],
                max_length=16,
            ),
        ),
    ]
