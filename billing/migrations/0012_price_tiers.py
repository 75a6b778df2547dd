import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0011_alert_unsent_index")]

    operations = [
        migrations.AddField(
            model_name="price",
            name="tiers",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Rates that replace these under a condition; the first that applies wins.",
            ),
        ),
    ]
