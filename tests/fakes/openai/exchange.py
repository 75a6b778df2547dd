"""One request and its answer on the wire: the vendor's headers, JSON, streams, and a script's ways of going wrong."""

import asyncio
import gzip
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import orjson
from aiohttp import web

from tests.fakes.openai.errors import envelope
from tests.fakes.openai.scripts import Script
from tests.fakes.openai.usage import Produced
from tests.fakes.openai.wire import Event, sse
from tests.fakes.records import Record, RequestLog

# What the vendor sends and no gateway may pass on; tests look for these strings in the gateway's answers.
VENDOR_ORGANIZATION = "org-vendor-account-8f3a"
VENDOR_PROJECT = "proj_vendor_5c1d"
VENDOR_COOKIE = "__cf_bm=vendor-cookie-71be"


def vendor_headers(request_id: str, started_at: float) -> dict[str, str]:
    """The headers the vendor and its content network put on every answer."""
    return {
        "x-request-id": request_id,
        "openai-processing-ms": str(int((time.time() - started_at) * 1000)),
        "openai-organization": VENDOR_ORGANIZATION,
        "openai-project": VENDOR_PROJECT,
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "199985",
        "x-ratelimit-reset-tokens": "6m0s",
        "set-cookie": f"{VENDOR_COOKIE}; path=/; domain=.api.openai.com; HttpOnly; Secure; SameSite=None",
        "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
        "server": "cloudflare",
        "cf-ray": "9a1b2c3d4e5f6071-AMS",
        "cf-cache-status": "DYNAMIC",
        "alt-svc": 'h3=":443"; ma=86400',
    }


class Exchange:
    """Sends one answer. `held` is the application's set of answers waiting for `release`."""

    stream_type = "text/event-stream; charset=utf-8"
    waiting = b""
    """What the vendor sends before a body, to keep the connection open."""

    def __init__(self, request: web.Request, record: Record, log: RequestLog, held: set[asyncio.Event]) -> None:
        self.record = record
        self.produced = Produced()
        self.prompt_tokens = 0
        self.dropped = False
        self._request = request
        self._log = log
        self._held = held

    def vendor_headers(self) -> dict[str, str]:
        """The headers of this vendor's answers."""
        return vendor_headers(self.record.request_id, self.record.received_at)

    def error_event(self, error: dict[str, Any]) -> bytes:
        """An error in the middle of a stream, as this vendor puts it."""
        return sse(envelope(500, **error))

    def account(self) -> None:
        """Write into the record what was produced so far."""
        self.record.text_sent = self.produced.text()
        completion = self.produced.tokens()
        self.record.produced = {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion}

    async def before_headers(self, script: Script) -> None:
        """Be late, wait or go away, as the script says, before anything is answered."""
        if script.delay_seconds:
            await asyncio.sleep(script.delay_seconds)
        if script.hold_before_headers:
            await self._hold()
        if script.drop_before_headers:
            await self._drop(with_reset=script.drop_before_headers == "reset")

    async def send_json(self, body: Any, script: Script, *, usage: dict[str, Any] | None = None) -> web.StreamResponse:
        """Answer with a JSON body, indented as the vendor's; `usage` is the object inside it, for the record."""
        raw = orjson.dumps(body, option=orjson.OPT_INDENT_2) if script.raw_body is None else script.raw_body
        raw = self.waiting + raw
        headers = self._headers("application/json", script)
        if script.gzip:
            raw, headers["content-encoding"] = gzip.compress(raw), "gzip"
        headers["content-length"] = str(len(raw))
        self.record.status = script.status
        response = web.StreamResponse(status=script.status, headers=headers)
        await response.prepare(self._request)
        if script.cut_body_at is not None:
            await response.write(raw[: script.cut_body_at])
            await self._drop(with_reset=False)
        await response.write(raw)
        self.record.usage_sent, self.record.completed = usage, True
        await response.write_eof()
        return response

    async def send_bytes(self, content: bytes, content_type: str) -> web.StreamResponse:
        """Answer with a file."""
        self.record.status = 200
        headers = self._headers(content_type, Script()) | {"content-length": str(len(content))}
        response = web.StreamResponse(headers=headers)
        await response.prepare(self._request)
        await response.write(content)
        self.record.completed = True
        await response.write_eof()
        return response

    @property
    def origin(self) -> str:
        """As the client dialled it."""
        return f"{self._request.scheme}://{self._request.host}"

    async def send_stream(
        self, events: Iterator[Event], script: Script, *, content_type: str = ""
    ) -> web.StreamResponse:
        """Answer with server-sent events, or pieces of another type, taking the next only when the one before is
        written."""
        self.record.status = 200
        response = web.StreamResponse(headers=self._headers(content_type or self.stream_type, script))
        await response.prepare(self._request)
        self._log.stream_opened(self.record)
        while True:
            if script.fault and self.record.events_sent == script.fault_after_events:
                goes_on = await self._fault(response, script)
                if not goes_on:
                    break
            event = next(events, None)
            if event is None:
                self.record.completed = True
                break
            if self.record.events_sent:
                # Without a pause still a turn for the other streams, and for the news that the client left.
                await asyncio.sleep(script.chunk_pause_seconds)
            await self._write(response, event.data, script)
            self.produced.add(event.said)
            self.record.usage_sent = event.usage or self.record.usage_sent
            self.record.events_sent += 1
            self._log.progressed()
        await response.write_eof()
        return response

    def _headers(self, content_type: str, script: Script) -> dict[str, str]:
        own = self.vendor_headers() | {"content-type": content_type}
        return own | {name.lower(): value for name, value in script.headers.items()}

    async def _write(self, response: web.StreamResponse, data: bytes, script: Script) -> None:
        if not script.split_bytes:
            await response.write(data)
            return
        for start in range(0, len(data), script.split_bytes):
            await response.write(data[start : start + script.split_bytes])
            await asyncio.sleep(script.chunk_pause_seconds)

    async def _fault(self, response: web.StreamResponse, script: Script) -> bool:
        """Do the script's harm. True when the stream goes on after it."""
        if script.fault == "hold":
            await self._hold()
        elif script.fault == "insert":
            await response.write(script.fault_bytes)
        elif script.fault == "error":
            await response.write(self.error_event(script.error))
        elif script.fault in ("close", "reset"):
            await self._drop(with_reset=script.fault == "reset")
        return script.fault in ("hold", "insert")

    async def _hold(self) -> None:
        event = asyncio.Event()
        self._held.add(event)
        self.account()
        self._log.held(self.record, True)
        try:
            await event.wait()
        finally:
            self._held.discard(event)
            self._log.held(self.record, False)

    async def _drop(self, *, with_reset: bool) -> None:
        """Close the connection under the answer. Never returns: the lost connection cancels this handler."""
        self.dropped = True
        transport = self._request.transport
        if transport is not None and with_reset:
            # Lingering for zero seconds makes close() send RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        elif transport is not None:
            transport.close()
        await asyncio.Event().wait()
