"""What is done with a call whose client has left, for each provider."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("providers", "0002_announce_changes")]

    operations = [
        migrations.AddField(
            "provider",
            "on_disconnect",
            models.CharField(
                blank=True,
                choices=[
                    ("abort", "Abort: its bill stops when the connection is closed"),
                    ("drain", "Drain: it bills the whole answer, so read it to the end"),
                ],
                default="",
                help_text="Empty: as its kind does.",
                max_length=8,
                verbose_name="when a client leaves",
            ),
            preserve_default=False,
        ),
    ]
