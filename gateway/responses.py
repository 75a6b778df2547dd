"""The data plane's responses: an error in OpenAI's envelope, JSON as bytes, a stream of events."""

from __future__ import annotations

from django.http import HttpResponse

from billing.money import usd
from gateway.context import Trace
from gateway.errors import GatewayError
from gateway.streaming import StreamReply


class EventStreamResponse(HttpResponse):
    """The head of a stream; `reply` writes the body itself, without Django's iterators between it and the socket."""

    def __init__(self, reply: StreamReply) -> None:
        super().__init__(content_type="text/event-stream; charset=utf-8")
        self.reply = reply
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"


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


def describe(response: HttpResponse, trace: Trace) -> None:
    """Say in headers how the answer came about."""
    headers = response.headers
    if trace.attempts:
        headers["x-gateway-attempts"] = str(len(trace.attempts))
        headers["x-gateway-fallback"] = "true" if len(trace.attempts) > 1 else "false"
    if trace.target is not None:
        headers["x-gateway-provider"] = trace.target.provider_name
        headers["x-gateway-model"] = trace.target.model_name
    if trace.cost_nano_usd is not None:
        headers["x-gateway-cost-usd"] = usd(trace.cost_nano_usd)
    for name, value in trace.limit_headers.items():
        headers[name] = value
    headers["x-gateway-overhead-ms"] = f"{(trace.elapsed_seconds() - trace.upstream_seconds) * 1000:.1f}"


def preflight_response() -> HttpResponse:
    """The answer to a browser that asks whether it may call."""
    response = HttpResponse(status=204)
    response.headers["access-control-allow-methods"] = "GET, POST, DELETE, OPTIONS"
    response.headers["access-control-allow-headers"] = "*, Authorization"
    response.headers["access-control-max-age"] = "86400"
    return response
