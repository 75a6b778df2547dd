"""JSON bodies of clients: typed where the gateway decides on them, the client's own bytes everywhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from gateway.context import Attribution
from gateway.errors import ValidationError

Body = TypeVar("Body")

ATTRIBUTION_LIMIT = 256
MISSING_FIELD = re.compile(r"missing required field `([^`]+)`")

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Metadata(msgspec.Struct):
    """The part of `metadata` that says which conversation a call belongs to."""

    conversation_id: str | None = None


def decode(decoder: msgspec.json.Decoder[Body], body: bytes) -> tuple[Body, Mapping[str, msgspec.Raw]]:
    """Read a body as its type and as its members' raw bytes. Raises `ValidationError` naming the member at fault."""
    try:
        return decoder.decode(body), _decode_members(body)
    except msgspec.ValidationError as error:
        raise explain(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValidationError(f"The body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise ValidationError("The body is nested too deeply.") from error


def explain(error: msgspec.ValidationError) -> ValidationError:
    """msgspec says what is wrong and, after `- at`, where; clients read the place from `param`."""
    problem, _, place = str(error).partition(" - at `")
    path = place.rstrip("`").removeprefix("$").removeprefix(".")
    missing = MISSING_FIELD.search(problem)
    if missing:
        path = f"{path}.{missing[1]}" if path else missing[1]
        return ValidationError(f"{path} is required.", param=path)
    return ValidationError(f"{path or 'The body'}: {problem[:1].lower()}{problem[1:]}.", param=path or None)


def attribution(
    meta: Mapping[str, Any], *, user: str | None, metadata: Metadata | None, default_user: str
) -> Attribution:
    """Whom a call is counted for: the body first, then headers, then the key. Raises `ValidationError`."""
    conversation = metadata.conversation_id if metadata is not None else None
    return Attribution(
        user=_name("user", user or meta.get("HTTP_X_USER_ID") or default_user),
        conversation=_name("metadata.conversation_id", meta.get("HTTP_X_CONVERSATION_ID") or conversation or ""),
        agent=_name("X-Agent-ID", meta.get("HTTP_X_AGENT_ID", "")),
        agent_type=_name("X-Agent-Type", meta.get("HTTP_X_AGENT_TYPE", "")),
    )


def _name(param: str, value: str) -> str:
    if len(value) > ATTRIBUTION_LIMIT or not (value.isprintable() or not value):
        raise ValidationError(f"{param} must be at most {ATTRIBUTION_LIMIT} printable characters.", param=param)
    return value
