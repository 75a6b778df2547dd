"""GET /health, /ready, /sessions and /metrics: for whoever runs the platform."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Awaitable
from typing import Any

import orjson
import redis.exceptions
from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.authentication import presented_key
from gateway.errors import InvalidApiKeyError
from gateway.handler import DataPlaneRequest
from gateway.provider_standings import count, describe, read_board
from gateway.responses import json_response
from gateway.runtime import Gateway
from gateway.views import DataPlaneView
from providers.selectors import ProviderStanding
from tenants.client_addresses import client_address
from tenants.selectors import config_revisions

PATIENCE_SECONDS = 1.5
AWAY = (DatabaseError, InterfaceError, redis.exceptions.RedisError, OSError)


async def _backends(gateway: Gateway) -> dict[str, str]:
    """Whether each engine answers, in one word."""
    postgres, redis_state = await asyncio.gather(
        _answers(gateway.directory.query(config_revisions)), _answers(gateway.redis.ping())
    )
    return {"postgres": postgres, "redis": redis_state}


async def _answers(question: Awaitable[object]) -> str:
    """In bounded time: whoever asks takes a process that does not answer for dead, and it is the engine that is."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await question
    except (*AWAY, TimeoutError):
        return "unavailable"
    return "ok"


async def _schema(gateway: Gateway) -> str:
    """Whether the database is as this release wants it, in one word. Which migrations lack is in the log."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return "mismatch" if await gateway.schema.missing() else "ok"
    except (*AWAY, TimeoutError):
        return "unknown"


async def _standings(gateway: Gateway) -> list[ProviderStanding] | None:
    """How providers are doing; None when the database does not say."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await gateway.provider_standings.read()
    except TimeoutError:
        return None


def _is_operator(request: DataPlaneRequest) -> bool:
    """Whether it comes with an operator's token, or from this machine itself."""
    config = request.gateway.config
    given = presented_key(request.META) or ""
    if config.metrics_token and hmac.compare_digest(given.encode(), config.metrics_token.encode()):
        return True
    address = client_address(request.META, trusted_proxies=config.trusted_proxies)
    return address is not None and address.is_loopback


class HealthView(DataPlaneView):
    """The process is alive; says so even when an engine is not."""

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """200 whenever this process can answer. Providers are counted for anybody, and named for operators."""
        gateway = request.gateway
        standings = await _standings(gateway)
        found: dict[str, Any] = {
            "status": "ok",
            "backends": await _backends(gateway),
            "sessions": gateway.sessions.standing() if gateway.sessions is not None else None,
            "providers": None if standings is None else count(standings),
        }
        if standings is not None and _is_operator(request):
            board = await read_board(gateway.redis)
            found["provider_status"] = [describe(standing, board) for standing in standings]
        return json_response(orjson.dumps(found))


class ReadyView(DataPlaneView):
    """Whether calls should be sent here."""

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """200 with both engines there and every migration of this release applied, else 503; also while this process is
        being stopped."""
        backends = await _backends(request.gateway)
        schema = await _schema(request.gateway)
        is_stopping = request.gateway.stopping.has_begun
        ready = not is_stopping and schema == "ok" and all(state == "ok" for state in backends.values())
        status = "ready" if ready else "stopping" if is_stopping else "not ready"
        body = orjson.dumps({"status": status, "backends": backends, "schema": schema})
        return json_response(body, status=200 if ready else 503)


def _for_operators(request: DataPlaneRequest) -> None:
    """Let operators pass. Raises `InvalidApiKeyError`."""
    if not _is_operator(request):
        raise InvalidApiKeyError


class SessionsView(DataPlaneView):
    """The CLI sessions of the process that answers, for an operator's token or from this machine itself."""

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """The pool as a whole, and each session; no pool, no sessions."""
        _for_operators(request)
        pool = request.gateway.sessions
        body = {
            "object": "list",
            "process": os.getpid(),
            "pool": {"size": pool.config.size, "overflow_limit": pool.config.overflow, **pool.standing()}
            if pool
            else None,
            "data": pool.described() if pool else [],
        }
        return json_response(orjson.dumps(body))


class MetricsView(DataPlaneView):
    """Prometheus metrics of every web process, for an operator's token or from this machine itself."""

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """The text exposition format."""
        _for_operators(request)
        metrics_dir = request.gateway.config.metrics_dir
        registry: CollectorRegistry = REGISTRY
        if metrics_dir:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=metrics_dir)
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
