"""The gateway as one explicit object: built per process and per test, so that two with different settings live side by
side in one process and neither sees the other."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from uuid import uuid4

import redis.asyncio
from django.conf import settings

from billing.fault_points import arm
from billing.flight_recorder import FlightRecorder
from billing.ledger import Ledger
from billing.sweeper import UNKNOWN_AFTER
from gateway.audit.log import AuditLog
from gateway.audit.sinks import NOWHERE, SinkSettings, build_sinks
from gateway.audit.usage import UsageFeed
from gateway.bad_keys import BadKeys
from gateway.caching.cache import ResponseCache
from gateway.cancellation import Cancellations, InFlight
from gateway.claims import Claims
from gateway.continuations import Continuations
from gateway.directory import Directory
from gateway.draining import Drains
from gateway.embedded.processes import die_with_parent
from gateway.embedding_batches import EmbeddingBatches
from gateway.health.board import Health
from gateway.heartbeat import Heartbeat
from gateway.jobs.watching import JobWatch
from gateway.limits import Limits
from gateway.media.config import MediaConfig
from gateway.media.store import FileStore
from gateway.observation import Observer
from gateway.provider_standings import ProviderStandings
from gateway.realtime.room import Room
from gateway.request_log import RequestLog
from gateway.retries import RetryBudgets
from gateway.schema import SchemaGuard
from gateway.schemas.validators import Validators
from gateway.settings import cli_environment
from gateway.stopping import Stopping
from gateway.unattended import Unattended
from providers.cli.config import PoolConfig
from providers.cli.pool import SessionPool
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
    bad_keys_per_minute: int = 60
    metrics_dir: str = ""
    metrics_token: str = ""
    request_log: bool = True
    audit_calls: bool = True
    usage_sinks: tuple[str, ...] = ("json_log",)
    sinks: SinkSettings = NOWHERE
    redis_timeout_seconds: float = 0.1
    embeddings_window_seconds: float = 0.005
    heartbeat_seconds: float = 5
    process_dead_seconds: float = 15
    config_stale_seconds: float = 900
    drains_at_once: int = 256
    drain_seconds: float = 120
    drain_shutdown_seconds: float = 10
    max_in_flight: int = 2000
    shutdown_notice_seconds: float = 2
    shutdown_seconds: float = 300
    fault_points: str = ""
    media: MediaConfig = field(default_factory=MediaConfig)
    realtime_sessions: int = 500
    realtime_idle_seconds: float = 600
    realtime_max_seconds: float = 3600
    realtime_client_seconds: float = 30
    realtime_drain_seconds: float = 30
    cli: PoolConfig | None = None
    """None: no program is run."""

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
            bad_keys_per_minute=settings.BAD_KEYS_PER_MINUTE,
            metrics_dir=settings.METRICS_DIR,
            metrics_token=settings.METRICS_TOKEN,
            request_log=settings.REQUEST_LOG_DAYS > 0,
            audit_calls="database" in settings.AUDIT_SINKS,
            usage_sinks=settings.USAGE_SINKS,
            sinks=SinkSettings(
                webhook_url=settings.SINK_WEBHOOK_URL,
                webhook_secret=settings.SINK_WEBHOOK_SECRET,
                otlp_url=settings.SINK_OTLP_URL,
                otlp_token=settings.SINK_OTLP_TOKEN,
            ),
            flight_dir=settings.FLIGHT_DIR,
            redis_timeout_seconds=settings.REDIS_TIMEOUT_MS / 1000,
            embeddings_window_seconds=settings.EMBEDDINGS_WINDOW_MS / 1000,
            heartbeat_seconds=settings.HEARTBEAT_SECONDS,
            process_dead_seconds=settings.PROCESS_DEAD_SECONDS,
            config_stale_seconds=settings.CONFIG_STALE_SECONDS,
            drains_at_once=settings.DRAINS_AT_ONCE,
            drain_seconds=settings.DRAIN_SECONDS,
            drain_shutdown_seconds=settings.DRAIN_SHUTDOWN_SECONDS,
            max_in_flight=settings.MAX_IN_FLIGHT,
            shutdown_notice_seconds=settings.SHUTDOWN_NOTICE_SECONDS,
            shutdown_seconds=settings.SHUTDOWN_SECONDS,
            fault_points=settings.FAULT_POINTS,
            media=MediaConfig.from_settings(),
            realtime_sessions=settings.REALTIME_SESSIONS,
            realtime_idle_seconds=settings.REALTIME_IDLE_SECONDS,
            realtime_max_seconds=settings.REALTIME_MAX_SECONDS,
            realtime_client_seconds=settings.REALTIME_CLIENT_SECONDS,
            realtime_drain_seconds=settings.REALTIME_DRAIN_SECONDS,
            cli=_cli_from_settings(),
        )


def _cli_from_settings() -> PoolConfig | None:
    if not settings.LLM_CLI_COMMAND:
        return None
    environment = cli_environment()
    return PoolConfig(
        command=settings.LLM_CLI_COMMAND,
        folder=settings.LLM_CLI_FOLDER,
        environment=environment,
        secrets=tuple(filter(None, map(environment.get, settings.LLM_CLI_ENVIRONMENT))),
        size=settings.LLM_POOL_SIZE,
        overflow=settings.LLM_POOL_OVERFLOW,
        keep_alive_seconds=settings.LLM_KEEP_ALIVE_INTERVAL,
        request_timeout_seconds=settings.LLM_REQUEST_TIMEOUT,
        before_exec=die_with_parent(signal.SIGKILL),
    )


class Gateway:
    """Everything a call needs. Start it inside a running event loop; `close` writes what is still owed to the books."""

    audit: AuditLog
    cache: ResponseCache
    cancellations: Cancellations
    continuations: Continuations
    embedding_batches: EmbeddingBatches
    recorder: FlightRecorder
    health: Health
    heartbeat: Heartbeat
    ledger: Ledger
    claims: Claims
    limits: Limits
    sessions: SessionPool | None
    request_log: RequestLog
    retries: RetryBudgets
    transport: Transport
    usage_feed: UsageFeed
    redis: redis.asyncio.Redis

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.directory = Directory(stale_seconds=config.config_stale_seconds)
        self.schema = SchemaGuard(self.directory)
        self.validators = Validators()
        self.provider_standings = ProviderStandings(self.directory)
        self.bad_keys = BadKeys(config.bad_keys_per_minute)
        self.drains = Drains(at_once=config.drains_at_once, seconds=config.drain_seconds)
        self.stopping = Stopping(notice_seconds=config.shutdown_notice_seconds, seconds=config.shutdown_seconds)
        self.observer = Observer(writes_calls="json_log" in config.usage_sinks)
        self.files = FileStore(config.media)
        self.in_flight = InFlight()
        self.job_watch = JobWatch(self.directory)
        self.realtime = Room(self)
        self.unattended = Unattended()
        self.reporting = asyncio.Lock()
        """One usage report at a time: it takes one of the directory's two threads, and keys need the other."""
        self._starting = asyncio.Lock()
        self.started = False

    async def start(self) -> None:
        """Open pools and load the registry; calling it again does nothing."""
        async with self._starting:
            if self.started:
                return
            arm(self.config.fault_points)
            await self.schema.missing()  # first, so that what fails for a missing column is explained in the log
            await self.directory.start()
            self.recorder = FlightRecorder(self.config.flight_dir, uuid4())
            self.ledger = Ledger(self.config.database_conninfo, self.recorder)
            self.claims = Claims(
                self.config.database_conninfo,
                self.recorder.process_id,
                dead_after_seconds=UNKNOWN_AFTER * self.config.process_dead_seconds,
            )
            self.heartbeat = Heartbeat(
                self.recorder,
                directory=self.directory,
                every_seconds=self.config.heartbeat_seconds,
                dead_after_seconds=self.config.process_dead_seconds,
            )
            await self.heartbeat.start(self.ledger)
            self.limits = Limits(self.config.redis_url, timeout_seconds=self.config.redis_timeout_seconds)
            await self.limits.start()
            self.continuations = Continuations(self.config.redis_url, timeout_seconds=self.config.redis_timeout_seconds)
            self.cache = ResponseCache(
                self, redis_url=self.config.redis_url, timeout_seconds=self.config.redis_timeout_seconds
            )
            self.cache.start()
            self.health = Health(self.config.redis_url, timeout_seconds=self.config.redis_timeout_seconds)
            await self.health.start()
            self.retries = RetryBudgets()
            self.sessions = SessionPool(self.config.cli, changed=self.observer.sessions) if self.config.cli else None
            if self.sessions is not None:
                self.sessions.start()
            self.transport = Transport(self.sessions)
            self.embedding_batches = EmbeddingBatches(
                self.transport, window_seconds=self.config.embeddings_window_seconds
            )
            self.request_log = RequestLog(self.config.database_conninfo, enabled=self.config.request_log)
            self.request_log.start()
            self.audit = AuditLog(self.config.database_conninfo, enabled=self.config.audit_calls)
            self.audit.start()
            usage_sinks = build_sinks(self.config.usage_sinks, self.config.sinks, of="usage")
            self.usage_feed = UsageFeed(usage_sinks, self.transport)
            self.usage_feed.start()
            self.cancellations = Cancellations(self.config.redis_url, self.in_flight)
            self.cancellations.start()
            self.redis = redis.asyncio.Redis.from_url(self.config.redis_url, socket_timeout=1, socket_connect_timeout=1)
            self.started = True

    async def close(self) -> None:
        """Write what the ledger owes, then let go of everything."""
        if self.started:
            self.started = False
            await self.realtime.close()
            await self.cancellations.close()
            await self.job_watch.close()
            await self.unattended.close()
            await self.drains.close(self.config.drain_shutdown_seconds)
            await self.embedding_batches.close()
            await self.cache.close()
            await self.ledger.close()
            await self.claims.close()
            await self.heartbeat.stop()
            await self.heartbeat.sign_off()
            await self.request_log.close()
            await self.audit.close()
            await self.usage_feed.close()
            await self.transport.close()
            if self.sessions is not None:
                await self.sessions.close()
            await self.limits.close()
            await self.continuations.close()
            await self.health.close()
            await self.redis.aclose()
            await self.directory.close()
            self.files.close()
