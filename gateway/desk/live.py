"""Figures that change on an open page: a WebSocket for operators, fed by one task for each process.

The task reads the same sums as the page, once a second, and only while somebody watches. They are the database's, so
all processes are in them, and a request's path knows nothing of it. Whoever watches has a session of the admin, is on a
page of this host, and is looked at again every few seconds: where the session has ended, the socket is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from gateway.desk.figures import home_figures, through
from gateway.desk.first_steps import first_steps
from gateway.desk.kept import NEEDS, kept
from gateway.desk.needs import find_needs
from tenants.models import Operator, Role

logger = logging.getLogger(__name__)

PATH = "/admin/live/"
PREFIX = "/admin/"
READ_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""How long a session that has ended may go on watching."""
PATIENCE_SECONDS = 3.0
"""After this long without an answer of the database, pages are told that theirs are old."""
ROLES = frozenset({Role.VIEWER, Role.OPERATOR, Role.OWNER})
WATCHERS = 500
"""Pages that one process feeds."""

TRY_LATER, SILENT, NOT_ALLOWED = 4013, 4008, 4403
"""Close codes: too many watch; the page said something; the session has ended. daphne takes none of 1001 to 2999."""


@dataclass(eq=False, slots=True)
class Watcher:
    """One open page."""

    operator_id: int
    session_key: str
    session_hash: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False


class Hub:
    """What one process's open pages are told."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._latest = b""

    @property
    def is_full(self) -> bool:
        """Whether no further page can be fed."""
        return len(self._watchers) >= WATCHERS

    async def watch(self, watcher: Watcher) -> AsyncIterator[bytes]:
        """Every state from now on, the newest one when its reader is slow. Ends with the watcher's session."""
        self._watchers.add(watcher)
        if self._task is None or self._task.done():
            self._latest = b""
            self._task = asyncio.get_running_loop().create_task(self._feed())
        elif self._latest:
            watcher.news.set()
        try:
            while True:
                await watcher.news.wait()
                watcher.news.clear()
                if watcher.ended:
                    return
                yield self._latest
        finally:
            self._watchers.discard(watcher)

    async def _feed(self) -> None:
        thread = ThreadPoolExecutor(1, thread_name_prefix="live")
        run = functools.partial(asyncio.get_running_loop().run_in_executor, thread)
        looked_at = time.monotonic()
        try:
            while self._watchers:
                began = time.monotonic()
                try:
                    self._tell(await self._patiently(run(read_state)))
                    if began - looked_at >= LOOK_SECONDS:
                        looked_at = began
                        self._end(await run(ended_sessions, list(self._watchers)))
                except (DatabaseError, InterfaceError) as error:
                    logger.warning("live.not_read", extra={"reason": str(error)})
                    await run(let_go)
                    self._tell(STALE)
                await asyncio.sleep(max(0.0, READ_SECONDS - (time.monotonic() - began)))
            await run(let_go)
        finally:
            thread.shutdown(wait=False)  # a read that hangs must not hold up the process

    async def _patiently(self, reading: asyncio.Future[bytes]) -> bytes:
        while not (await asyncio.wait([reading], timeout=PATIENCE_SECONDS))[0]:
            self._tell(STALE)
        return reading.result()

    def _end(self, watchers: list[Watcher]) -> None:
        for watcher in watchers:
            watcher.ended = True
            watcher.news.set()

    def _tell(self, state: bytes) -> None:
        self._latest = state
        for watcher in self._watchers:
            watcher.news.set()


def let_go() -> None:
    """Close the connection of the thread that runs this; the next read opens another."""
    connection.close()


STALE = orjson.dumps({"stale": "The database does not answer."})


def read_state() -> bytes:
    """What a page is told: its figures, how much needs somebody, and which first steps are done."""
    now = timezone.now()
    figures = {
        figure.key: {"text": figure.text, "remark": figure.remark, "bad": figure.is_bad} for figure in home_figures(now)
    }
    needs = kept(NEEDS, lambda: find_needs(now))
    steps = {step.key: step.is_done for step in first_steps()}
    return orjson.dumps({"figures": figures, "needs": len(needs), "steps": steps, "through": through(now)})


def ended_sessions(watchers: list[Watcher]) -> list[Watcher]:
    """Those who logged out, were switched off, or changed their password meanwhile. Two queries."""
    keys = {watcher.session_key for watcher in watchers}
    alive = set(
        Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now()).values_list(
            "session_key", flat=True
        )
    )
    operators = Operator.objects.in_bulk({watcher.operator_id for watcher in watchers})
    return [
        watcher
        for watcher in watchers
        if watcher.session_key not in alive or not _may_watch(operators.get(watcher.operator_id), watcher)
    ]


def _may_watch(operator: Operator | None, watcher: Watcher) -> bool:
    if operator is None or not sees_the_platform(operator):
        return False
    return constant_time_compare(operator.get_session_auth_hash(), watcher.session_hash)


def sees_the_platform(operator: Operator | AnonymousUser) -> bool:
    """Whether somebody may see sums over all tenants. The roles are named: another one, of a tenant's own, may not."""
    return operator.is_active and operator.is_staff and getattr(operator, "role", "") in ROLES


class LiveConsumer(AsyncWebsocketConsumer):
    """One operator's open page. It is told everything and says nothing."""

    def __init__(self, *, hub: Hub) -> None:
        super().__init__()
        self._hub = hub
        self._telling: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        operator = self.scope["user"]
        if (
            self.scope["path"] != PATH
            or not sees_the_platform(operator)
            or not is_own_page(dict(self.scope["headers"]))
        ):
            await self.close()  # before it is accepted: HTTP 403
            return
        await self.accept()
        if self._hub.is_full:
            await self.close(TRY_LATER)
            return
        session = self.scope["session"]
        watcher = Watcher(operator.pk, session.session_key, session.get(HASH_SESSION_KEY, ""))
        self._telling = asyncio.get_running_loop().create_task(self._tell(watcher))

    async def _tell(self, watcher: Watcher) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # it has left, and the server has yet to say so
            async for state in self._hub.watch(watcher):
                await self.send(text_data=state.decode())
            await self.close(NOT_ALLOWED)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self._hush()
        await self.close(SILENT)

    async def disconnect(self, code: int) -> None:
        self._hush()

    def _hush(self) -> None:
        if self._telling is not None:
            self._telling.cancel()


def is_own_page(headers: dict[bytes, bytes]) -> bool:
    """Whether the page that opens the socket is of this host: the cookie comes along from any."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        place = urlsplit(origin)
    except ValueError:
        return False
    return place.scheme in ("http", "https") and place.netloc == headers.get(b"host", b"").decode("latin-1")


def live_application() -> Any:
    """The ASGI application for the operators' WebSockets of one process."""
    return AuthMiddlewareStack(LiveConsumer.as_asgi(hub=Hub()))
