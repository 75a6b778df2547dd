"""A receiver of webhooks on loopback, which checks signatures as the Standard Webhooks specification says.

The check is written from the specification's text and shares no code with the sender.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOLERANCE_SECONDS = 5 * 60


class SignatureError(AssertionError):
    """What a receiver that follows the specification would refuse."""


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str, *, now: float) -> Any:
        """The payload, if it is signed with the secret and not older or newer than five minutes."""
        if abs(now - int(self.headers["webhook-timestamp"])) > TOLERANCE_SECONDS:
            raise SignatureError("too old, or from the future")
        assert secret[:6] == "whsec_"
        content = b".".join((self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body))
        expected = base64.b64encode(hmac.new(base64.b64decode(secret[6:]), content, hashlib.sha256).digest()).decode()
        for versioned in self.headers["webhook-signature"].split(" "):
            version, _, signature = versioned.partition(",")
            if version == "v1" and hmac.compare_digest(signature, expected):
                return json.loads(self.body)
        raise SignatureError("no signature fits")


class WebhookReceiver:
    """A server that answers with the statuses of `answers`, one after the other, then with 204."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[int] = []
        self.location = ""
        self.say: Callable[[Received], bytes] = lambda _: b""
        """The body of an answer; with one, the status is 200 unless `answers` has another."""
        self.gate = threading.Event()
        """Cleared: answers wait for it."""
        self.gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.append(Received(self.path, headers, body))
                outer.gate.wait(20)
                said = outer.say(outer.received[-1])
                self.send_response(outer.answers.pop(0) if outer.answers else 200 if said else 204)
                if outer.location:
                    self.send_header("location", outer.location)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST

            def log_message(self, *_arguments: object) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
