"""Figures on an open page: who may watch, what is told and when, and what happens when a session or a server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gateway.desk import live
from tenants.models import Operator, Role
from tests.gateway.conftest import Platform
from tests.live import LiveServer

COOKIE = "sessionid"


@pytest.fixture
def watcher(seeded: Platform) -> Callable[..., Client]:
    """A session of an operator with this role."""

    def log_in(role: str = Role.VIEWER, **fields: Any) -> Client:
        name = f"{role}-{Operator.objects.count()}"
        operator = Operator.objects.create(username=name, **{"role": role, "is_staff": True, **fields})
        client = Client()
        client.force_login(operator)
        client.operator = operator  # type: ignore[attr-defined]
        client.session_key = client.cookies[COOKIE].value  # type: ignore[attr-defined]
        return client

    return log_in


def watch(
    server: LiveServer, client: Client | None, *, path: str = live.PATH, origin: str | None = ""
) -> ClientConnection:
    headers = {}
    if client is not None:
        headers["Cookie"] = f"{COOKIE}={client.session_key}"  # type: ignore[attr-defined]
    return connect(
        f"{server.origin.replace('http', 'ws')}{path}",
        additional_headers=headers,
        origin=server.origin if origin == "" else origin,  # type: ignore[arg-type]
        compression=None,
        proxy=None,
    )


def told(socket: ClientConnection) -> dict[str, Any]:
    state: dict[str, Any] = orjson.loads(socket.recv(timeout=10))
    return state


def closed_with(socket: ClientConnection) -> int | None:
    """The code that ends it, once it does."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            socket.recv(timeout=15)
    return closed.value.rcvd.code if closed.value.rcvd else None


def calls(state: dict[str, Any]) -> int:
    return int(state["figures"]["requests"]["text"].replace(",", ""))


def test_a_call_is_on_an_open_page_at_once(
    server: LiveServer, seeded: Platform, watcher: Callable[..., Client]
) -> None:
    seeded.known_to(server)
    with watch(server, watcher()) as socket:
        first = told(socket)
        assert set(first) == {"figures", "needs", "steps", "through"}
        before, spent = calls(first), first["figures"]["spent_today"]["text"]
        ask(server, seeded)
        states = 0
        while not (calls(state := told(socket)) > before and state["figures"]["spent_today"]["text"] != spent):
            states += 1
            assert states < 30, "one comes each second"


def ask(server: LiveServer, seeded: Platform) -> None:
    with server.client(seeded.key) as client:
        body = {"model": "fake-chat", "messages": [{"role": "user", "content": "Hello"}]}
        assert client.post("/chat/completions", json=body).status_code == 200


@pytest.mark.parametrize("who", ["nobody", "not staff", "switched off", "of a tenant"])
def test_only_operators_watch(who: str, server: LiveServer, seeded: Platform, watcher: Callable[..., Client]) -> None:
    client = (
        None
        if who == "nobody"
        else watcher("member" if who == "of a tenant" else Role.VIEWER, is_staff=who != "not staff")
    )
    if client is not None and who == "switched off":
        Operator.objects.filter(pk=client.operator.pk).update(is_active=False)  # type: ignore[attr-defined]
    assert status_of(server, client) == 403


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "http://127.0.0.1", "http://[", "ftp://x"])
def test_no_page_of_another_host_watches(
    origin: str | None, uvicorn: LiveServer, seeded: Platform, watcher: Callable[..., Client]
) -> None:
    assert status_of(uvicorn, watcher(), origin=origin) == 403


def test_there_is_one_path(server: LiveServer, seeded: Platform, watcher: Callable[..., Client]) -> None:
    client = watcher()
    for path in ("/admin/", "/admin/live", "/admin/live/x/", "/admin/live/%2e%2e/"):
        assert status_of(server, client, path=path) == 403
    assert server.get(live.PATH).status_code in (302, 404), "by plain HTTP there is nothing"


def status_of(server: LiveServer, client: Client | None, **options: Any) -> int:
    try:
        with watch(server, client, **options):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


@pytest.mark.parametrize("how", ["logged out", "switched off", "new password", "other role"])
def test_a_session_that_ends_is_closed(
    how: str, uvicorn: LiveServer, seeded: Platform, watcher: Callable[..., Client]
) -> None:
    client = watcher()
    operator = client.operator  # type: ignore[attr-defined]

    def end() -> None:
        if how == "logged out":
            client.logout()
        elif how == "new password":
            operator.set_password("another horse battery")
            operator.save()
        else:
            changed = {"is_active": False} if how == "switched off" else {"role": "member"}
            Operator.objects.filter(pk=operator.pk).update(**changed)

    with watch(uvicorn, client) as socket:
        told(socket)
        end()
        assert closed_with(socket) == live.NOT_ALLOWED
    assert status_of(uvicorn, client) == 403


def test_a_page_has_nothing_to_say(server: LiveServer, seeded: Platform, watcher: Callable[..., Client]) -> None:
    with watch(server, watcher()) as socket:
        told(socket)
        socket.send("{}")
        assert closed_with(socket) == live.SILENT


def test_the_database_is_asked_once_for_all_pages_and_not_at_all_without_one(
    uvicorn: LiveServer, seeded: Platform, watcher: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def read() -> bytes:
        nonlocal reads
        reads += 1
        return orjson.dumps({"read": reads})

    monkeypatch.setattr(live, "read_state", read)
    monkeypatch.setattr(live, "READ_SECONDS", 0.01)
    monkeypatch.setattr(live, "LOOK_SECONDS", 3600)

    async def go() -> None:
        hub = live.Hub()
        pages = [hub.watch(live.Watcher(1, "", "")) for _ in range(50)]
        for turn in range(3):
            states = await asyncio.gather(*(anext(page) for page in pages))
            assert len(states) == 50 and reads <= 3 * (turn + 1) + 3
        for page in pages:
            await page.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(hub._task, 5)  # type: ignore[arg-type]
        before = reads
        assert hub._task is not None and hub._task.done() and reads == before
        page = hub.watch(live.Watcher(1, "", ""))
        assert orjson.loads(await anext(page))["read"] > before, "who comes back is fed again"
        await page.aclose()  # type: ignore[attr-defined]

    asyncio.run(go())


def test_a_server_that_is_asked_to_stop_does_not_wait_for_open_pages(
    seeded: Platform, watcher: Callable[..., Client], tmp_path: Any
) -> None:
    other = LiveServer("uvicorn", tmp_path)
    try:
        with watch(other, watcher()) as socket:
            told(socket)
            other.stop()
            closed_with(socket)
    finally:
        other.stop()
