"""The data plane's responses: an error in OpenAI's envelope, JSON as bytes, a stream of events."""

from __future__ import annotations

import re
from typing import Protocol

from django.http import HttpResponse

from billing.money import usd
from gateway.context import Trace
from gateway.errors import GatewayError
from gateway.streaming import EventStream, Send

PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NAMES_TOLD = 32


class EventStreamResponse(HttpResponse):
    """The head of a stream; `reply` writes the body itself, without Django's iterators between it and the socket."""

    def __init__(self, reply: EventStream) -> None:
        super().__init__(content_type="text/event-stream; charset=utf-8")
        self.reply = reply
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"


class ByteStream(Protocol):
    """A body that is sent piece by piece."""

    async def write(self, send: Send) -> None:
        """Send all of it."""

    def close(self) -> None:
        """Let go of what it holds, also when it was never written."""


class FileResponse(HttpResponse):
    """The head of a file; `reply` writes the body. Give it a Content-Length where that is known."""

    def __init__(self, reply: ByteStream, *, status: int = 200, content_type: str) -> None:
        super().__init__(status=status, content_type=content_type)
        self.reply = reply


def json_response(body: bytes, *, status: int = 200) -> HttpResponse:
    """A body that is JSON already."""
    return HttpResponse(body, status=status, content_type="application/json")


def error_response(error: GatewayError, trace: Trace) -> HttpResponse:
    """The envelope, with what the error wants said in headers."""
    trace.error_code = error.code
    response = json_response(error.envelope(trace.request_id), status=error.status)
    for name, value in error.headers.items():
        response.headers[name] = value
    return response


def error_event(error: GatewayError, trace: Trace) -> bytes:
    """The envelope as the event that ends a stream."""
    return b"data: %b\n\n" % error.envelope(trace.request_id)


def describe(response: HttpResponse, trace: Trace) -> None:
    """Say in headers how the answer came about."""
    headers = response.headers
    if trace.attempts:
        headers["x-gateway-attempts"] = str(len(trace.attempts))
        headers["x-gateway-fallback"] = "true" if trace.deployments_asked > 1 else "false"
    if trace.target is not None:
        headers["x-gateway-provider"] = trace.target.provider_name
        headers["x-gateway-model"] = trace.target.model_name
    if trace.dropped_parameters:
        headers["x-gateway-dropped-parameters"] = _names(trace.dropped_parameters)
    if trace.validation:
        headers["x-gateway-validation"] = trace.validation
    if trace.cost_nano_usd is not None:
        headers["x-gateway-cost-usd"] = usd(trace.cost_nano_usd)
    if trace.cache:
        headers["x-gateway-cache"] = trace.cache
    if trace.cache == "hit":
        headers["age"] = str(trace.cache_age_seconds)
    for name, value in trace.limit_headers.items():
        headers[name] = value
    headers["x-gateway-overhead-ms"] = f"{(trace.elapsed_seconds() - trace.upstream_seconds) * 1000:.1f}"


def _names(members: tuple[str, ...]) -> str:
    """Members' names as a header value. They are the client's own words, so not all of them fit into one."""
    return ",".join(name for name in members[:NAMES_TOLD] if PLAIN_NAME.fullmatch(name))


def preflight_response() -> HttpResponse:
    """The answer to a browser that asks whether it may call."""
    response = HttpResponse(status=204)
    response.headers["access-control-allow-methods"] = "GET, POST, DELETE, OPTIONS"
    response.headers["access-control-allow-headers"] = "*, Authorization"
    response.headers["access-control-max-age"] = "86400"
    return response
