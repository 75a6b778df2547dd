from django.db import migrations

from tenants.config_triggers import announce

CATALOGUE_TABLES = (
    "providers_provider",
    "providers_credential",
    "providers_model",
    "providers_deployment",
    "providers_modelgroup",
    "providers_groupmember",
    "providers_agenttype",
)


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_initial"), ("tenants", "0002_announce_changes")]

    operations = [
        *(announce(table, "catalogue") for table in CATALOGUE_TABLES),
        announce("providers_tenantapproval", "tenants"),
    ]
