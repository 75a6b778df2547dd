"""The base of every data-plane endpoint: a DRF view whose steps are awaited on the loop.

DRF would run authentication, permissions and negotiation in a thread, and answer 406 to the Accept headers that real
SDKs send for audio and streams.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework.views import APIView

from gateway import idempotency
from gateway.authentication import KEY_DIGEST, authenticate, authenticate_inside
from gateway.body_stream import ClientLeft
from gateway.context import Caller
from gateway.errors import (
    GatewayError,
    InternalError,
    MethodNotAllowedError,
    RequestCancelledError,
    UnsupportedMediaError,
)
from gateway.handler import DataPlaneRequest, new_request_id
from gateway.jobs import submission
from gateway.jobs.deferring import Deferred
from gateway.jobs.models import Job
from gateway.jobs.wishes import Wish, read_wish
from gateway.media.multipart import FormLimits, reading_form
from gateway.responses import describe, error_response
from tenants.models import Scope

logger = logging.getLogger(__name__)


class DataPlaneView(APIView):
    """Authenticates, calls the method's handler, and turns every failure into OpenAI's error envelope."""

    scope: ClassVar[Scope | tuple[Scope, ...] | None] = None
    """What the key must be allowed, or one of several; None for endpoints that need no key."""
    operation: ClassVar[str] = ""
    """Under which name calls are logged and counted; empty for what is no call of a tenant's."""
    form_limits: ClassVar[FormLimits | None] = None
    """How much a form with files may hold; None for endpoints that take none."""

    async def dispatch(self, request: DataPlaneRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        """Answer a request; never raises but for cancellation."""
        request.trace.operation = self.operation
        return await self._answered(request, self._admit(request, *args, **kwargs))

    async def _admit(self, request: DataPlaneRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Find out who asks for what, and have it done: once, where the client says so."""
        handler = getattr(self, (request.method or "").lower(), None)
        if request.method not in self.allowed_methods or handler is None:
            raise MethodNotAllowedError(
                f"{request.method} is not possible here; use {', '.join(self.allowed_methods)}."
            )
        if self.scope is not None:
            request.trace.caller = await _caller_of(request, self.scope)
            _claim_request_id(request)
        if request.form_stream is not None:
            return await self._with_form(request, handler, *args, **kwargs)
        return await self._once(request, handler, *args, **kwargs)

    async def _with_form(self, request: DataPlaneRequest, handler: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Have a form read to disk, for as long as it takes to answer."""
        if self.form_limits is None:
            raise UnsupportedMediaError("This endpoint takes JSON, no form.")
        await self.before_form(request)
        async with reading_form(request, self.form_limits) as request.form:
            return await self._once(request, handler, *args, **kwargs)

    async def before_form(self, request: DataPlaneRequest) -> None:
        """What is to be refused before a byte of a form is read, by raising."""

    async def _once(self, request: DataPlaneRequest, handler: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        if self.scope is not None and request.method == "POST" and idempotency.META_NAME in request.META:
            return await idempotency.answer_once(
                request, lambda: self._answered(request, self._handled(request, handler, *args, **kwargs))
            )
        return await self._handled(request, handler, *args, **kwargs)

    async def _handled(self, request: DataPlaneRequest, handler: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """The endpoint's own answer, or that of a job if that is what its client wants."""
        trace = request.trace
        if request.method == "POST" and self.operation and trace.job is None:
            trace.deferral = self.wish_of(request)
        try:
            response: HttpResponse = await handler(request, *args, **kwargs)
        except Deferred as deferred:
            assert trace.deferral is not None
            job = await submission.submit(request, deferred.call)
            return await self.told_of(request, job, wish=trace.deferral)
        return response

    def wish_of(self, request: DataPlaneRequest) -> Wish | None:
        """How the client wants a call to become a job; None for not at all. Raises `ValidationError`."""
        wish = read_wish(request)
        return wish if wish is not None and wish.respond_async else None

    async def told_of(self, request: DataPlaneRequest, job: Job, *, wish: Wish) -> HttpResponse:
        """The answer to a client whose call has become a job. Raises `GatewayError`."""
        return await submission.answered(request, job, wish=wish)

    async def _answered(self, request: DataPlaneRequest, answering: Awaitable[HttpResponse]) -> HttpResponse:
        """The answer, or the error that it comes to, with what is said about both in headers."""
        trace = request.trace
        try:
            response = await answering
        except GatewayError as error:
            response = error_response(error, trace)
        except asyncio.CancelledError:
            if not trace.cancelled:
                raise  # its client has left, or the server is stopping
            response = error_response(RequestCancelledError(), trace)
        except ClientLeft:
            raise
        except Exception:  # an endpoint's last resort: a bug must not reach the client as a traceback
            logger.exception("request.failed", extra={"request_id": trace.request_id})
            response = error_response(InternalError(), trace)
        if self.operation:
            describe(response, trace)
        return response

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Not reached: `dispatch` refuses other methods with the API's own error."""
        raise MethodNotAllowedError(f"{request.method} is not possible here.")


async def _caller_of(request: DataPlaneRequest, scope: Scope | tuple[Scope, ...]) -> Caller:
    """By the key it carries, by the one that this process itself names, or whose job it is."""
    if request.trace.job is not None:
        return await request.trace.job.caller(scope=scope)
    digest = request.scope.get(KEY_DIGEST)
    if digest is not None:
        return await authenticate_inside(request.gateway, digest, scope=scope)
    return await authenticate(request.gateway, request.META, scope=scope)


def _claim_request_id(request: DataPlaneRequest) -> None:
    """Keep the client's request id only while no other request of its tenant bears it. A job's call bears the job's id;
    what a provider takes up is not broken off on the way there, for nobody would know of it."""
    trace = request.trace
    if trace.job is not None:
        if not trace.job.is_native:
            request.gateway.in_flight.add(trace)
        return
    if request.gateway.in_flight.holds(trace):
        trace.request_id = new_request_id()
    request.gateway.in_flight.add(trace)
