"""GET /v1/requests/{id}: why a request went where it went; POST /v1/requests/{id}/cancel: end it."""

from __future__ import annotations

import orjson
from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse
from redis.exceptions import RedisError

from gateway.errors import OverloadedError, RequestNotFoundError
from gateway.handler import REQUEST_ID, DataPlaneRequest
from gateway.request_records import describe_request
from gateway.responses import json_response
from gateway.views import DataPlaneView
from tenants.models import Scope


class RequestView(DataPlaneView):
    """One request of the caller's own tenant."""

    scope = Scope.USAGE

    async def get(self, request: DataPlaneRequest, request_id: str) -> HttpResponse:
        """Its decision trace, attempts, usage and cost. Another tenant's is not found."""
        tenant_id = _whose(request, request_id)
        try:
            async with request.gateway.reporting:
                described = await request.gateway.directory.query(describe_request, tenant_id, request_id)
        except (DatabaseError, InterfaceError) as error:
            raise OverloadedError("The request cannot be looked up now.") from error
        if described is None:
            raise RequestNotFoundError(request_id)
        return json_response(orjson.dumps(described))


class CancelRequestView(DataPlaneView):
    """A call in flight, in whichever process."""

    scope = Scope.CHAT

    async def post(self, request: DataPlaneRequest, request_id: str) -> HttpResponse:
        """Cancel it: its client is told `request_cancelled`, and what was used so far is charged."""
        tenant_id = _whose(request, request_id)
        try:
            cancelled = await request.gateway.cancellations.cancel(tenant_id, request_id)
        except (RedisError, OSError) as error:
            raise OverloadedError("Other processes cannot be reached now, and this one does not hold it.") from error
        if not cancelled:
            raise RequestNotFoundError(request_id, where=" in flight")
        return json_response(orjson.dumps({"id": request_id, "object": "request", "cancelled": True}))


def _whose(request: DataPlaneRequest, request_id: str) -> int:
    """The caller's tenant. Raises for what is no request's id, before anybody is asked for it."""
    assert request.trace.caller is not None
    if not REQUEST_ID.fullmatch(request_id):
        raise RequestNotFoundError(request_id)
    return request.trace.caller.principal.tenant_id
