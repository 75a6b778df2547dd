import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0003_rate_limits'),
    ]

    operations = [
        migrations.AlterField(
            model_name='apikey',
            name='scopes',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('chat', 'Chat completions'), ('embeddings', 'Embeddings'), ('models', 'Model list'), ('usage', 'Usage and budgets')], max_length=32), blank=True, default=list, help_text='What the key may call. Empty: everything its tenant may.', size=None),
        ),
    ]
