"""`/v1/realtime` as an ASGI application: the handshake, and what becomes of it.

Raw ASGI and no Channels consumer: a consumer dispatches one message after the other through a thread-aware layer, which
costs half as much again and lets one slow query delay every frame (docs/decisions/0028-voice-sessions.md).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from django.db import DatabaseError, InterfaceError

from gateway.bodies import attribution
from gateway.context import Call, Trace
from gateway.errors import GatewayError, PermissionDeniedError, UnknownUrlError, ValidationError
from gateway.realtime import rows
from gateway.realtime.client import ClientSocket, Message, Receive, Send
from gateway.realtime.closing import CODES, FAILED, POLICY, TRY_LATER, End, error_event
from gateway.realtime.credentials import SUBPROTOCOL, Identity, headers_of, identify, subprotocol_key
from gateway.realtime.models import SessionReason
from gateway.realtime.opening import Opened, open_session
from gateway.realtime.room import LEFT_SECONDS
from gateway.realtime.session import Session
from providers.types import Usage, WireRequest

if TYPE_CHECKING:
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

PATH = "/v1/realtime"
OPERATION = "realtime"
NO_SUMMARY = "off"

LOGGED_AS = {
    SessionReason.CLIENT_CLOSE: "",
    SessionReason.IDLE: "",
    SessionReason.EXPIRED: "",
    SessionReason.DRAINING: "server_stopped",
}
"""The ends that are no failure, and those that other calls have another word for."""


class RealtimeDoor:
    """Serves WebSockets; there is one path."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        trace = Trace(f"sess_{uuid.uuid4().hex}", operation=OPERATION, stream=True)
        meta = headers_of(scope)
        opening = asyncio.create_task(self._open(scope, meta, trace=trace))
        try:
            identity, call, opened = await opening
        except GatewayError as error:
            trace.error_code, trace.status = error.code, error.status
            self._finish(trace)
            await _refuse(error, scope, send=send, trace=trace)
            return
        except asyncio.CancelledError:
            opening.cancel()
            self._finish(trace)
            raise
        session = self._session(identity, call, trace=trace, opened=opened)
        session.wants_summary = meta.get("HTTP_X_GATEWAY_SESSION_SUMMARY", "").lower() != NO_SUMMARY
        talk = asyncio.create_task(self._talk(session, opened, scope=scope, receive=receive, send=send))
        self._gateway.realtime.hold(session, talk)
        try:
            await asyncio.shield(talk)
        except asyncio.CancelledError:  # daphne stops, or uvicorn has lost patience
            session.stop(End(reason=SessionReason.DRAINING))
            await asyncio.wait([talk], timeout=LEFT_SECONDS)
            raise

    async def _open(self, scope: Message, meta: dict[str, str], *, trace: Trace) -> tuple[Identity, Call, Opened]:
        """Everything that can be refused with a status. Raises `GatewayError`."""
        if scope["path"].rstrip("/") != PATH:
            raise UnknownUrlError(f"There is no WebSocket at {scope['path']}.")
        self._gateway.realtime.check()
        _check_origin(meta, self._gateway.config.cors_origins)
        identity = await identify(self._gateway, meta, offered_key=subprotocol_key(scope))
        trace.caller = identity.caller
        call = _call(scope, meta, identity=identity, trace=trace)
        trace.requested_model = call.requested_model
        self._gateway.audit.started(call, trace)
        return identity, call, await open_session(self._gateway, call, trace=trace)

    def _session(self, identity: Identity, call: Call, *, trace: Trace, opened: Opened) -> Session:
        session = Session(self._gateway, call, trace=trace, purse=opened.purse, terms=opened.terms)
        session.key_digest = identity.key_digest
        if identity.grant is not None:
            session.begins_with = identity.grant.session
        return session

    async def _talk(self, session: Session, opened: Opened, *, scope: Message, receive: Receive, send: Send) -> None:
        """Accept the client and relay; whatever becomes of it, the session is paid and written down."""
        trace = session.trace
        client = ClientSocket(receive, send)
        end = End(reason=SessionReason.ERROR)
        try:
            await self._note_opening(session)
            if await _accept(scope, send, session=session):
                end = await session.run(client, opened.upstream, conversation=opened.conversation, first=opened.first)
            else:
                end = await session.abandon(opened.upstream)
        finally:
            await session.purse.close(None)  # does nothing where the session has ended in order
            trace.status = 101
            trace.error_code = LOGGED_AS.get(end.reason, end.reason.value)
            _sum_up(session)
            self._finish(trace)
            await self._note_end(session, end)

    async def _note_opening(self, session: Session) -> None:
        process, opened_at = self._gateway.recorder.process_id, session.trace.started_at

        def write() -> None:
            rows.open_row(session.call, session.target, process=process, opened_at=opened_at)

        try:
            await self._gateway.directory.query(write)
        except (DatabaseError, InterfaceError) as error:
            logger.error("realtime.row_not_written", extra={"session": session.id, "reason": str(error)})

    async def _note_end(self, session: Session, end: End) -> None:
        usage = session.summary()
        cost = sum(charge.cost_nano_usd for charge in session.purse.charges)

        def write() -> None:
            code = end.close_code if end.reason in CODES else None
            rows.close_row(session.id, reason=end.reason, close_code=code, usage=usage, cost_nano_usd=cost)

        try:
            await self._gateway.directory.query(write)
        except (DatabaseError, InterfaceError) as error:  # `gateway.close_lost_sessions` closes it from the ledger
            logger.error("realtime.row_not_written", extra={"session": session.id, "reason": str(error)})

    def _finish(self, trace: Trace) -> None:
        if trace.lease is not None:
            self._gateway.limits.finish(trace)
        self._gateway.observer.finished(trace)
        self._gateway.request_log.add(trace)
        self._gateway.audit.ended(trace)
        self._gateway.usage_feed.add(trace)


def _call(scope: Message, meta: dict[str, str], *, identity: Identity, trace: Trace) -> Call:
    """The session as a call. Raises `ValidationError`."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    if "call_id" in query or "intent" in query:
        raise ValidationError("Only ?model= is relayed: no side channels to calls, no intents.", param="call_id")
    grant = identity.grant
    granted = grant.session.get("model") if grant is not None else None
    model = (query.get("model") or [granted])[0]
    if not isinstance(model, str) or not 1 <= len(model) <= 200:
        raise ValidationError("Name the model: /v1/realtime?model=NAME.", param="model")
    if granted is not None and model != granted:
        raise PermissionDeniedError(f"This client secret is for {granted!r}.", param="model")
    user = (grant.user if grant is not None else "") or meta.get("HTTP_OPENAI_SAFETY_IDENTIFIER")
    return Call(
        caller=identity.caller,
        request_id=trace.request_id,
        operation=OPERATION,
        requested_model=model,
        needs=frozenset({"realtime"}),
        wire=WireRequest(operation=OPERATION, members={}, stream=True),
        input_bytes=0,
        attribution=attribution(meta, user=user, metadata=None, default_user=identity.caller.principal.user),
    )


def _check_origin(meta: dict[str, str], allowed: frozenset[str]) -> None:
    """Browsers say where a page is from: this platform's own, such as the playground, or one that is allowed.

    No cookie opens a session, so this only narrows who may use a key.
    """
    origin = meta.get("HTTP_ORIGIN")
    if origin is None or "*" in allowed or origin in allowed:
        return
    if urlsplit(origin).netloc != meta.get("HTTP_HOST"):
        raise PermissionDeniedError("Pages of this origin may not open sessions.")


async def _accept(scope: Message, send: Send, *, session: Session) -> bool:
    """Answer the handshake; False when the client has left meanwhile."""
    offered = scope.get("subprotocols") or []
    headers = [
        (b"x-gateway-session-id", session.id.encode()),
        (b"x-request-id", session.id.encode()),
        (b"x-gateway-provider", session.target.provider_name.encode("ascii", "replace")),
    ]
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
    try:
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})
    except (OSError, RuntimeError):
        return False
    return True


async def _refuse(error: GatewayError, scope: Message, *, send: Send, trace: Trace) -> None:
    """Answer a handshake that comes to nothing: by a status where it can be read, else by an event."""
    offered = scope.get("subprotocols") or []
    if subprotocol_key(scope) is not None and SUBPROTOCOL in offered:  # a browser, which is shown no status
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        await send({"type": "websocket.send", "text": error_event(error)})
        code = TRY_LATER if error.status in (429, 503) else POLICY if error.status < 500 else FAILED
        await send({"type": "websocket.close", "code": code, "reason": error.code})
    elif "websocket.http.response" in (scope.get("extensions") or {}):
        headers = [(b"content-type", b"application/json"), (b"x-request-id", trace.request_id.encode())]
        headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items()]
        await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
        body = error.envelope(trace.request_id)
        await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
    else:  # daphne answers 403 whatever the reason
        await send({"type": "websocket.close", "code": POLICY})


def _sum_up(session: Session) -> None:
    """What rate limits, metrics and the log are told of a session that is over."""
    charges = session.purse.charges
    if not charges:
        return
    used = [charge.usage for charge in charges]
    session.trace.usage = Usage(
        units={},
        input_tokens=sum(usage.input_tokens for usage in used),
        output_tokens=sum(usage.output_tokens for usage in used),
        cache_read_tokens=sum(usage.cache_read_tokens for usage in used),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in used),
    )
    session.trace.cost_nano_usd = sum(charge.cost_nano_usd for charge in charges)
