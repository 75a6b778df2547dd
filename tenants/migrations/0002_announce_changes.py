from django.db import migrations

from tenants.config_triggers import FUNCTION, announce


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [
        FUNCTION,
        announce("tenants_tenant", "tenants"),
        announce("tenants_project", "tenants"),
        announce("tenants_apikey", "tenants"),
    ]
