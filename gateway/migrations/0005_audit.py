import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0004_hooks'),
        ('tenants', '0006_audit'),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditCheck',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('ok', models.BooleanField()),
                ('events', models.BigIntegerField(help_text='How many were read.')),
                ('breaks', models.JSONField(default=list, help_text='Of each broken chain its first bad event, and what is wrong.')),
            ],
            options={
                'ordering': ['-at', '-pk'],
                'indexes': [models.Index(fields=['-at', '-id'], name='audit_check_newest')],
            },
        ),
        migrations.CreateModel(
            name='SinkCursor',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sink', models.CharField(max_length=32)),
                ('chain', models.BigIntegerField(help_text="The tenant's id; 0 for the platform.")),
                ('sequence', models.BigIntegerField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('sink', 'chain'), name='sink_cursor_once')],
            },
        ),
        migrations.CreateModel(
            name='KeptText',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('request_id', models.CharField(max_length=128)),
                ('created_at', models.DateTimeField(help_text='When the client asked.')),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('request', models.TextField(help_text='Sealed, bound to the tenant and the request.')),
                ('answer', models.TextField(help_text='Sealed likewise.')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'kept text',
                'ordering': ['-created_at'],
                'indexes': [models.Index(fields=['tenant', 'request_id'], name='kept_text_by_request')],
            },
        ),
    ]
