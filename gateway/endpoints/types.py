"""GET /v1/types and /v1/types/{name}: the schemas that the caller's requests may refer to."""

from __future__ import annotations

from typing import Any

import orjson
from django.http import HttpResponse

from gateway.errors import TypeNotFoundError, ValidationError
from gateway.handler import DataPlaneRequest
from gateway.responses import json_response
from gateway.schemas.catalogue import TypeEntry
from gateway.views import DataPlaneView
from tenants.models import Scope

PAGE = 100
LARGEST_PAGE = 1000


class TypeListView(DataPlaneView):
    """Every published type that the tenant sees, its own and the common ones, and those withdrawn since."""

    scope = Scope.MODELS

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer OpenAI's list, `?limit=` at a time after the id `?after=`; `?name=` keeps the versions of one."""
        limit, after, name = _limit(request), request.GET.get("after"), request.GET.get("name")
        entries = [entry for entry in _visible(request) if name is None or entry.name == name]
        if after is not None:
            ids = [entry.reference for entry in entries]
            if after not in ids:
                raise ValidationError(f"after: there is no type {after[:200]!r} in this list.", param="after")
            entries = entries[ids.index(after) + 1 :]
        data = [_head(entry) for entry in entries[:limit]]
        return json_response(orjson.dumps({"object": "list", "data": data, "has_more": len(entries) > limit}))


class TypeView(DataPlaneView):
    """One type: NAME@VERSION, or the newest published version of a name."""

    scope = Scope.MODELS

    async def get(self, request: DataPlaneRequest, name: str) -> HttpResponse:
        """Answer the type with its schema; what the tenant does not see is not found."""
        for entry in _visible(request):
            if name == entry.reference or (name == entry.name and not entry.is_withdrawn):
                return json_response(orjson.dumps({**_head(entry), "schema": entry.schema}))
        raise TypeNotFoundError(name)


def _visible(request: DataPlaneRequest) -> list[TypeEntry]:
    assert request.trace.caller is not None
    return request.gateway.directory.types.visible(request.trace.caller.principal.tenant_id)


def _limit(request: DataPlaneRequest) -> int:
    text = request.GET.get("limit", str(PAGE))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= LARGEST_PAGE):
        raise ValidationError(f"limit is a whole number from 1 to {LARGEST_PAGE}.", param="limit")
    return int(text)


def _head(entry: TypeEntry) -> dict[str, Any]:
    return {
        "id": entry.reference,
        "object": "type",
        "name": entry.name,
        "version": entry.version,
        "description": entry.description,
        "scope": "global" if entry.tenant_id is None else "tenant",
        "state": "withdrawn" if entry.is_withdrawn else "published",
        "created": int(entry.published_at.timestamp()),
    }
