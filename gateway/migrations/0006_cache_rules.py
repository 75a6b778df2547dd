"""Whose answers are kept, and how often they were there."""

import uuid

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

from tenants.config_triggers import announce


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0005_audit'),
        ('providers', '0005_what_providers_say'),
        ('tenants', '0005_notifications'),
    ]

    operations = [
        migrations.CreateModel(
            name='CacheRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('enabled', models.BooleanField(default=True)),
                ('ttl_seconds', models.PositiveIntegerField(default=3600, help_text='An hour unless you say otherwise, 30 days at most.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(2592000)], verbose_name='kept for, seconds')),
                ('any_temperature', models.BooleanField(default=False, help_text='Also chats whose temperature is not 0 or not given: their answers differ each time they are asked.')),
                ('epoch', models.UUIDField(default=uuid.uuid4, editable=False, help_text='In every key; another one after each purge.')),
                ('group', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='providers.modelgroup')),
                ('model', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='providers.model')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='cache_rules', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'cache rule',
                'ordering': ['tenant__name', 'model__name', 'group__name', 'pk'],
            },
        ),
        migrations.CreateModel(
            name='CacheDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('hits', models.BigIntegerField(default=0)),
                ('misses', models.BigIntegerField(default=0)),
                ('saved_nano_usd', models.BigIntegerField(default=0)),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='days', to='gateway.cacherule')),
            ],
            options={
                'verbose_name': 'day of a cache rule',
                'ordering': ['-day'],
            },
        ),
        migrations.AddConstraint(
            model_name='cacherule',
            constraint=models.CheckConstraint(condition=models.Q(('model__isnull', True), ('group__isnull', True), _connector='OR'), name='cache_rule_of_one_target', violation_error_message='Choose a model or a group, or neither for all that the tenant may use.'),
        ),
        migrations.AddConstraint(
            model_name='cacherule',
            constraint=models.UniqueConstraint(fields=('tenant', 'model', 'group'), name='cache_rule_once', nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name='cacheday',
            constraint=models.UniqueConstraint(fields=('rule', 'day'), name='cache_day_once'),
        ),
        announce('gateway_cacherule', 'tenants'),
    ]
