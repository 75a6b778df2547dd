"""Tenants, keys and the registry as one process holds them: no query on the hot path once warm, never two seconds old.
While the database is away, what is known goes on to hold for a bounded time.

A task asks the database twice a second whether configuration has moved (`tenants.ConfigRevision`, raised by triggers)
and drops or reloads what has. Polling one small table survives lost connections and poolers; LISTEN does not.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import psycopg
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from billing.pricing import PriceList
from billing.selectors import budget_rules, load_prices
from gateway.caching.rules import cache_rules
from gateway.context import Caller
from gateway.hooks.selectors import HookShelf
from gateway.schemas.catalogue import TypeCatalogue
from gateway.schemas.selectors import load_types
from providers.selectors import Catalogue, approved_names, load_catalogue
from tenants.selectors import config_revisions, digest_of_key, find_principal, rate_limit_rules

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
CALLERS_KEPT = 10_000
"""About 1 KiB each. The oldest goes first: a key that is in use is back after one query."""

QUERY_THREADS = 2
CLOSE_SECONDS = 5.0
"""How long a process that ends waits for what it still asks the database."""

Result = TypeVar("Result")


class StaleDirectoryError(Exception):
    """What is known is too old to be acted on."""


class Directory:
    """Answers who a key belongs to and what the registry holds."""

    def __init__(self, *, stale_seconds: float) -> None:
        self._stale_seconds = stale_seconds
        self._stale_at = 0.0
        self.catalogue = Catalogue()
        self.prices = PriceList({})
        self.types = TypeCatalogue()
        self._callers: dict[bytes, Caller | None] = {}
        self._hooks = HookShelf()
        self._asking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._revisions: dict[str, int] | None = None
        self._threads = ThreadPoolExecutor(
            QUERY_THREADS, thread_name_prefix="directory", initializer=self._lend_own_connection
        )
        self._connections: list[BaseDatabaseWrapper] = []
        """That of each thread. A thread that waits cannot close its own."""
        self._under_way: set[concurrent.futures.Future[Any]] = set()
        self._is_closing = False
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the registry and begin to watch it. Raises `django.db.DatabaseError` when there is no database."""
        await self._refresh()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Stop watching. A question under way is broken off when the database is silent."""
        if self._watcher is not None:
            self._watcher.cancel()
        self._is_closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        if not await self._idle():
            logger.warning("directory.broken_off", extra={"questions": len(self._under_way)})
            for lent in self._connections:
                _cut_off(lent)
            if not await self._idle():
                return  # still connecting, which has a timeout of its own
        for lent in self._connections:
            await asyncio.to_thread(lent.close)

    def holds(self, digest: bytes) -> bool:
        """Whether `caller` will answer without a query."""
        return digest in self._callers

    async def caller(self, digest: bytes) -> Caller | None:
        """The key with this digest; None when there is none or it is revoked. A query only the first time.

        Raises `StaleDirectoryError` when changes could not be looked for in so long that it may well have been revoked.
        """
        if time.monotonic() > self._stale_at:
            raise StaleDirectoryError
        if digest in self._callers:
            return self._callers[digest]
        asking = self._asking.get(digest)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._ask(digest))
            self._asking[digest] = asking
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(asking)

    async def caller_of_key(self, key_id: int) -> Caller | None:
        """Whose a key is, by its number; None where it is revoked or gone. Raises as `caller` does."""
        digest = await self.query(digest_of_key, key_id)
        return await self.caller(digest) if digest is not None else None

    async def query(self, question: Callable[..., Result], *arguments: object) -> Result:
        """Run a question of the ORM in a thread of the directory's own, over a connection that stays open."""
        asking = self._threads.submit(self._on_sound_connection, question, *arguments)
        self._under_way.add(asking)
        asking.add_done_callback(self._under_way.discard)
        return await asyncio.wrap_future(asking)

    def _on_sound_connection(self, question: Callable[..., Result], *arguments: object) -> Result:
        is_old = connection.connection is not None
        try:
            return question(*arguments)
        except (DatabaseError, InterfaceError) as error:
            connection.close()  # the next question opens another
            if not is_old or self._is_closing or not isinstance(error, (OperationalError, InterfaceError)):
                raise
        return question(*arguments)  # it had died while nobody used it, as all do when the database restarts

    def _lend_own_connection(self) -> None:
        """Let whoever closes the directory close the connection of the thread that runs this."""
        own = connections[DEFAULT_DB_ALIAS]
        own.inc_thread_sharing()
        self._connections.append(own)

    async def _idle(self) -> bool:
        """Wait until nothing is being asked; False where that takes too long."""
        asked = tuple(self._under_way)
        return not asked or not (await asyncio.to_thread(concurrent.futures.wait, asked, CLOSE_SECONDS)).not_done

    async def _ask(self, digest: bytes) -> Caller | None:
        revisions = self._revisions
        caller = await self.query(load_caller, digest, self._hooks)
        if self._revisions is revisions:  # else it may be older than the change that was just seen
            if len(self._callers) >= CALLERS_KEPT:
                del self._callers[next(iter(self._callers))]
            self._callers[digest] = caller
        return caller

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._refresh()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("directory.refresh_failed", extra={"reason": str(error)})

    async def _refresh(self) -> None:
        asked = time.monotonic()
        found = await self.query(config_revisions)
        self._stale_at = asked + self._stale_seconds
        if found == self._revisions:
            return
        if self._revisions is None or found.get("catalogue") != self._revisions.get("catalogue"):
            self.catalogue, self.prices = await self.query(_load_registry)
        if self._revisions is None or found.get("types") != self._revisions.get("types"):
            self.types = await self.query(load_types)
        self._callers.clear()  # also after a change of the catalogue: approvals are kept by name
        self._hooks = HookShelf()
        self._revisions = found


def _load_registry() -> tuple[Catalogue, PriceList]:
    """Both as of one moment: a model that is seen without its deployments would be refused, one without its price would
    cost nothing."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return load_catalogue(), load_prices()


def load_caller(digest: bytes, hooks: HookShelf) -> Caller | None:
    """The key with this digest and all that its calls are held to; None when there is none or it is revoked."""
    principal = find_principal(digest)
    if principal is None:
        return None
    tenant_id = principal.tenant_id
    return Caller(
        principal,
        approved_names(tenant_id),
        budget_rules(tenant_id),
        rate_limit_rules(tenant_id),
        ZoneInfo(principal.timezone),
        hooks.of(tenant_id, principal.project_id),
        cache_rules(tenant_id),
    )


def _cut_off(lent: BaseDatabaseWrapper) -> None:
    """Have the thread that waits on a connection hear that it is gone: cancelling would ask the database."""
    if lent.connection is not None:
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(lent.connection.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)
