"""The gateway as one explicit object: built per process and per test, so that two with different settings live side by
side in one process and neither sees the other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from uuid import uuid4

import redis.asyncio
from django.conf import settings

from billing.flight_recorder import FlightRecorder
from billing.ledger import Ledger
from gateway.directory import Directory
from gateway.heartbeat import Heartbeat
from gateway.limits import Limits
from gateway.observation import Observer
from providers.transport import Transport


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """What a gateway is told when it is built; `gateway.settings` documents each."""

    database_conninfo: str
    redis_url: str
    api_key_pepper: bytes
    flight_dir: Path
    body_limit_bytes: int = 20 * 1024 * 1024
    cors_origins: frozenset[str] = frozenset({"*"})
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    metrics_dir: str = ""
    metrics_token: str = ""
    redis_timeout_seconds: float = 0.1
    heartbeat_seconds: float = 5
    process_dead_seconds: float = 15

    @classmethod
    def from_settings(cls) -> GatewayConfig:
        """The configuration of this process."""
        return cls(
            database_conninfo=settings.DATABASE_CONNINFO,
            redis_url=settings.REDIS_CONNECTION,
            api_key_pepper=settings.API_KEY_PEPPER,
            body_limit_bytes=settings.BODY_LIMIT_BYTES,
            cors_origins=settings.CORS_ORIGINS,
            trusted_proxies=settings.TRUSTED_PROXIES,
            metrics_dir=settings.METRICS_DIR,
            metrics_token=settings.METRICS_TOKEN,
            flight_dir=settings.FLIGHT_DIR,
            redis_timeout_seconds=settings.REDIS_TIMEOUT_MS / 1000,
            heartbeat_seconds=settings.HEARTBEAT_SECONDS,
            process_dead_seconds=settings.PROCESS_DEAD_SECONDS,
        )


class Gateway:
    """Everything a call needs. Start it inside a running event loop; `close` writes what is still owed to the books."""

    recorder: FlightRecorder
    heartbeat: Heartbeat
    ledger: Ledger
    limits: Limits
    transport: Transport
    redis: redis.asyncio.Redis

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.directory = Directory()
        self.observer = Observer()
        self.in_flight: set[tuple[int, str]] = set()
        """Tenant and request id of each request being answered by this process."""
        self.reporting = asyncio.Lock()
        """One usage report at a time: it takes one of the directory's two threads, and keys need the other."""
        self._starting = asyncio.Lock()
        self.started = False

    async def start(self) -> None:
        """Open pools and load the registry; calling it again does nothing."""
        async with self._starting:
            if self.started:
                return
            await self.directory.start()
            self.recorder = FlightRecorder(self.config.flight_dir, uuid4())
            self.ledger = Ledger(self.config.database_conninfo, self.recorder)
            self.heartbeat = Heartbeat(
                self.recorder,
                directory=self.directory,
                every_seconds=self.config.heartbeat_seconds,
                dead_after_seconds=self.config.process_dead_seconds,
            )
            await self.heartbeat.start(self.ledger)
            self.limits = Limits(self.config.redis_url, timeout_seconds=self.config.redis_timeout_seconds)
            await self.limits.start()
            self.transport = Transport()
            self.redis = redis.asyncio.Redis.from_url(self.config.redis_url, socket_timeout=1, socket_connect_timeout=1)
            self.started = True

    async def close(self) -> None:
        """Write what the ledger owes, then let go of everything."""
        if self.started:
            self.started = False
            await self.ledger.close()
            await self.heartbeat.stop()
            await self.heartbeat.sign_off()
            await self.transport.close()
            await self.limits.close()
            await self.redis.aclose()
            await self.directory.close()
