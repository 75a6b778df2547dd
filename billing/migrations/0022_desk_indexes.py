"""What the operators' home asks: which windows are under way, and which charges are in doubt."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0021_analytics")]

    operations = [
        migrations.AddIndex(
            model_name="budgetwindow",
            index=models.Index(fields=["ends_at"], name="budget_window_by_end"),
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(("usage_source__in", ["reserve_bound", "unknown"])),
                fields=["-created_at"],
                name="usage_doubtful",
            ),
        ),
    ]
