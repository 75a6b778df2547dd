"""Clients that take a stream's head and then read nothing more."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import psutil

from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.forked import ForkedServer, Forkery
from tests.gateway.conftest import Platform
from tests.gateway.money import books_balance
from tests.gateway.resilience.conftest import HELLO
from tests.live import until

CLIENTS = 10
PIECES, PIECE = 3_000, "x" * 10_000
"""30 MB for each: two sockets of a loopback connection hold some of it, not all."""
BUFFERED_BYTES = 256 * 1024
"""What the gateway may hold of one stream."""
SPARE_BYTES = 40 * 1024 * 1024
"""Of memory, for what a process takes on that is no buffer; not held back, ten streams would be some 200 MB."""


def test_their_provider_is_not_read_either(platform: Platform, upstream: FakeOpenAI, tmp_path: Path) -> None:
    upstream.script(Script(pieces=(PIECE,) * PIECES), times=None)
    with Forkery(tmp_path) as forkery:
        server = forkery.serve()
        server.wait_until_ready()
        platform.known_to(server, "fake-chat")
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        clients = [begin(server, platform.key) for _ in range(CLIENTS)]
        try:
            until(lambda: upstream.counters.open_streams == CLIENTS, what="all streams")
            until(lambda: stands_still(upstream), seconds=30, what="the provider having to wait")
            assert all(record.events_sent < PIECES for record in upstream.records)
            assert process.memory_info().rss - before < CLIENTS * BUFFERED_BYTES + SPARE_BYTES
        finally:
            for client in clients:
                client.close()
        until(lambda: not upstream.counters.in_flight, what="the provider being let go")
        assert {record.client_left for record in upstream.records} == {True}
    books_balance()


def begin(server: ForkedServer, key: str) -> socket.socket:
    """A client that has asked for a stream and reads its first bytes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    client.connect(("127.0.0.1", server.port))
    body = json.dumps({"model": "fake-chat", "messages": HELLO, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    client.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


def stands_still(upstream: FakeOpenAI) -> bool:
    """Whether the provider gets nothing off its hands for half a second."""
    sent = [record.events_sent for record in upstream.records]
    time.sleep(0.5)
    return sent == [record.events_sent for record in upstream.records]
