"""The base of every data-plane endpoint: a DRF view whose steps are awaited on the loop.

DRF would run authentication, permissions and negotiation in a thread, and answer 406 to the Accept headers that real
SDKs send for audio and streams.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework.views import APIView

from gateway.authentication import authenticate
from gateway.errors import GatewayError, InternalError, MethodNotAllowedError
from gateway.handler import DataPlaneRequest, new_request_id
from gateway.responses import describe, error_response
from tenants.models import Scope

logger = logging.getLogger(__name__)


class DataPlaneView(APIView):
    """Authenticates, calls the method's handler, and turns every failure into OpenAI's error envelope."""

    scope: ClassVar[Scope | None] = None
    """What the key must be allowed; None for endpoints that need no key."""
    operation: ClassVar[str] = ""
    """Under which name calls are logged and counted; empty for what is no call of a tenant's."""

    async def dispatch(self, request: DataPlaneRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        """Answer a request; never raises but for cancellation."""
        trace = request.trace
        trace.operation = self.operation
        try:
            handler = getattr(self, (request.method or "").lower(), None)
            if request.method not in self.allowed_methods or handler is None:
                raise MethodNotAllowedError(
                    f"{request.method} is not possible here; use {', '.join(self.allowed_methods)}."
                )
            if self.scope is not None:
                trace.caller = await authenticate(request.gateway, request.META, scope=self.scope)
                _claim_request_id(request)
            response: HttpResponse = await handler(request, *args, **kwargs)
        except GatewayError as error:
            response = error_response(error, trace)
        except Exception:  # an endpoint's last resort: a bug must not reach the client as a traceback
            logger.exception("request.failed", extra={"request_id": trace.request_id})
            response = error_response(InternalError(), trace)
        if self.operation:
            describe(response, trace)
        return response

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Not reached: `dispatch` refuses other methods with the API's own error."""
        raise MethodNotAllowedError(f"{request.method} is not possible here.")


def _claim_request_id(request: DataPlaneRequest) -> None:
    """Keep the client's request id only while no other request of its tenant bears it."""
    trace = request.trace
    assert trace.caller is not None
    in_flight = request.gateway.in_flight
    tenant_id = trace.caller.principal.tenant_id
    if (tenant_id, trace.request_id) in in_flight:
        trace.request_id = new_request_id()
    in_flight.add((tenant_id, trace.request_id))
