"""What all of OpenAI's protocol has in common: who asks, and how an error is said."""

from __future__ import annotations

import msgspec

from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED
from providers.types import Target

GATEWAY_MEMBERS = frozenset({"async"})
"""Members of a client's body that speak to the gateway and mean nothing to a provider."""


class ErrorBody(msgspec.Struct):
    message: str | None = None
    param: str | None = None
    code: str | int | None = None


class ErrorEnvelope(msgspec.Struct):
    error: ErrorBody | str


decode_error = msgspec.json.Decoder(ErrorEnvelope).decode


def authorization(target: Target) -> dict[str, str]:
    """The credential as a header; none for a server that wants none."""
    return {"authorization": f"Bearer {target.secret}"} if target.secret is not None else {}


def stream_error(payload: bytes) -> ProviderError:
    """An error that came with a status of success."""
    try:
        error = decode_error(payload).error
    except MALFORMED:
        error = payload.decode("utf-8", "replace")
    message = error if isinstance(error, str) else error.message or "The provider ended the stream with an error."
    return ProviderError(Failure.BROKEN, message)
