"""GET /health, /ready and /metrics: for whoever runs the platform."""

from __future__ import annotations

import hmac

import orjson
import redis.exceptions
from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.authentication import client_address, presented_key
from gateway.errors import InvalidApiKeyError
from gateway.handler import DataPlaneRequest
from gateway.responses import json_response
from gateway.runtime import Gateway
from gateway.views import DataPlaneView
from tenants.selectors import config_revisions


async def _backends(gateway: Gateway) -> dict[str, str]:
    """Whether each engine answers, in one word."""
    found = {"postgres": "ok", "redis": "ok"}
    try:
        await gateway.directory.query(config_revisions)
    except (DatabaseError, InterfaceError):
        found["postgres"] = "unavailable"
    try:
        await gateway.redis.ping()
    except (redis.exceptions.RedisError, OSError):
        found["redis"] = "unavailable"
    return found


class HealthView(DataPlaneView):
    """The process is alive; says so even when an engine is not."""

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """200 whenever this process can answer."""
        return json_response(orjson.dumps({"status": "ok", "backends": await _backends(request.gateway)}))


class ReadyView(DataPlaneView):
    """Whether calls should be sent here."""

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """200 with both engines there, else 503."""
        backends = await _backends(request.gateway)
        ready = all(state == "ok" for state in backends.values())
        body = orjson.dumps({"status": "ready" if ready else "not ready", "backends": backends})
        return json_response(body, status=200 if ready else 503)


class MetricsView(DataPlaneView):
    """Prometheus metrics of every web process, for an operator's token or from this machine itself."""

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """The text exposition format."""
        config = request.gateway.config
        address = client_address(request.gateway, request.META)
        given = presented_key(request.META) or ""
        known = bool(config.metrics_token) and hmac.compare_digest(given.encode(), config.metrics_token.encode())
        if not known and not (address is not None and address.is_loopback):
            raise InvalidApiKeyError
        registry: CollectorRegistry = REGISTRY
        if config.metrics_dir:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=config.metrics_dir)
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
