from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate

from gateway.schedule import PERIODIC, seed_schedule


class GatewayConfig(AppConfig):
    name = "gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        post_migrate.connect(seed_schedule, sender=apps.get_app_config(PERIODIC))
