"""Calls that an operator's page makes: inside the process, by the data plane's own handler, as any client's.

They pass the same door, authentication by a key of their tenant, limits, hooks and budgets. What differs is how the key
is named: by its digest in the call's scope, which only this process can write, so that nobody ever holds its text.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.authentication import KEY_DIGEST

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
DataPlane = Callable[[Message, Receive, Send], Awaitable[None]]

DATA_PLANE = "bursar.data_plane"
"""In the scope of control-plane requests that may call: the data plane of this process."""

CALLERS = ("/admin/playground/",)
"""Paths whose pages may call."""

TEXT = ("application/json", "text/")

_running: set[asyncio.Task[None]] = set()
"""A task that nobody refers to may be collected before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideCall:
    """A POST to the data plane. `digest` names the key it is made with."""

    path: str
    body: bytes
    digest: bytes
    headers: Mapping[str, str]
    client: tuple[str, int] | None = None

    def scope(self) -> Message:
        """As a server would have it."""
        headers = {"content-type": "application/json", **self.headers}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            "client": self.client,
            "server": ("127.0.0.1", 0),
            KEY_DIGEST: self.digest,
        }


async def messages_of(data_plane: DataPlane, call: InsideCall) -> AsyncIterator[Message]:
    """The answer's ASGI messages as they come. Whoever stops reading has left, as a client that hangs up."""
    answers: asyncio.Queue[Message | None] = asyncio.Queue()
    asked, gone = asyncio.Event(), asyncio.Event()

    async def receive() -> Message:
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": call.body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        try:
            await data_plane(call.scope(), receive, answers.put)
        finally:
            answers.put_nowait(None)

    task = asyncio.get_running_loop().create_task(run())
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        while (message := await answers.get()) is not None:
            yield message
    finally:
        gone.set()


async def lines_of(data_plane: DataPlane, call: InsideCall) -> AsyncIterator[bytes]:
    """The answer as lines of JSON: its head, its pieces (text, or base64 of bytes), its end."""
    is_text = True
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async with contextlib.aclosing(messages_of(data_plane, call)) as messages:  # type: ignore[type-var]
        async for message in messages:
            if message["type"] == "http.response.start":
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
                is_text = headers.get("content-type", "").startswith(TEXT)
                yield _line({"kind": "head", "status": message["status"], "headers": headers})
            elif body := message.get("body", b""):
                piece = {"text": decoder.decode(body)} if is_text else {"base64": base64.b64encode(body).decode()}
                yield _line({"kind": "piece", **piece})
    yield _line({"kind": "end"})


def _line(told: Mapping[str, Any]) -> bytes:
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
