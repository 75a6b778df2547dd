"""POST /v1/realtime/client_secrets, and GET /v1/realtime/sessions[/{id}]. The sessions themselves are WebSockets, which
`gateway.realtime.door` serves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import orjson
from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse

from gateway.authentication import presented_key
from gateway.bodies import attribution, decode
from gateway.errors import (
    ModelNotApprovedError,
    OverloadedError,
    RealtimeSessionNotFoundError,
    ValidationError,
)
from gateway.handler import DataPlaneRequest
from gateway.realtime.credentials import mint_secret
from gateway.realtime.rows import MOST_LISTED, find_session, list_sessions
from gateway.responses import json_response
from gateway.views import DataPlaneView
from tenants.keys import digest_key
from tenants.models import Scope

SHORTEST_SECONDS, LONGEST_SECONDS, USUAL_SECONDS = 10, 7200, 600
MOST_SESSION_BYTES = 64 * 1024
"""Of what a secret's sessions begin with: instructions and tools."""


class Expiry(msgspec.Struct):
    """From when, and how long, a secret may open sessions."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, msgspec.Meta(ge=SHORTEST_SECONDS, le=LONGEST_SECONDS)] = USUAL_SECONDS


class SecretRequest(msgspec.Struct):
    """What a client secret is asked for with."""

    session: dict[str, Any]
    expires_after: Expiry = msgspec.field(default_factory=Expiry)


_decoder = msgspec.json.Decoder(SecretRequest)


class ClientSecretsView(DataPlaneView):
    """Short-lived keys for browsers."""

    scope = Scope.CHAT

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Make one. It opens sessions of one model, which begin with what is given here, until it expires."""
        caller = request.trace.caller
        assert caller is not None
        body, members = decode(_decoder, request.body)
        session = body.session
        if len(members["session"]) > MOST_SESSION_BYTES:
            raise ValidationError(f"session may have {MOST_SESSION_BYTES} bytes at most.", param="session")
        model = session.get("model")
        if not isinstance(model, str):
            raise ValidationError("session.model is required.", param="session.model")
        if model not in caller.approved:
            raise ModelNotApprovedError(f"{model!r} is not approved for this tenant.", param="session.model")
        gateway = request.gateway
        pepper = gateway.config.api_key_pepper
        user = request.META.get("HTTP_OPENAI_SAFETY_IDENTIFIER")
        whom = attribution(request.META, user=user, metadata=None, default_user=caller.principal.user)
        digest = digest_key(presented_key(request.META) or "", pepper)

        def mint() -> tuple[str, Any]:
            return mint_secret(
                digest, pepper=pepper, user=whom.user, session=session, seconds=body.expires_after.seconds
            )

        try:
            value, expires_at = await gateway.directory.query(mint)
        except (DatabaseError, InterfaceError) as error:
            raise OverloadedError("The secret cannot be kept at the moment.") from error
        answer = {"value": value, "expires_at": int(expires_at.timestamp()), "session": session}
        return json_response(orjson.dumps(answer))


class RealtimeSessionView(DataPlaneView):
    """One voice session of the caller's own tenant."""

    scope = Scope.USAGE

    async def get(self, request: DataPlaneRequest, session_id: str) -> HttpResponse:
        """Its state and its usage so far. Another tenant's is not found."""
        found = await _asked(request, find_session, session_id)
        if found is None:
            raise RealtimeSessionNotFoundError(session_id)
        return json_response(orjson.dumps(found))


class RealtimeSessionsView(DataPlaneView):
    """The caller's tenant's voice sessions."""

    scope = Scope.USAGE

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """The newest first; `limit` at a time, `after` the last one of the page before."""
        limit = _limit(request.GET.get("limit"))
        after = request.GET.get("after")

        def ask(tenant_id: int) -> list[dict[str, Any]]:
            return list_sessions(tenant_id, limit=limit + 1, after=after)

        found = await _asked(request, ask)
        page = found[:limit]
        body = {"object": "list", "data": page, "has_more": len(found) > limit}
        return json_response(orjson.dumps(body))


async def _asked(request: DataPlaneRequest, question: Any, *arguments: object) -> Any:
    """Ask the database about the caller's tenant; one such question at a time."""
    caller = request.trace.caller
    assert caller is not None
    try:
        async with request.gateway.reporting:
            return await request.gateway.directory.query(question, caller.principal.tenant_id, *arguments)
    except (DatabaseError, InterfaceError) as error:
        raise OverloadedError("Sessions cannot be looked up now.") from error


def _limit(text: str | None) -> int:
    if text is None:
        return 20
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_LISTED:
        raise ValidationError(f"limit must be a whole number from 1 to {MOST_LISTED}.", param="limit")
    return int(text)
