"""Clients' frames, read strictly: what the gateway decides on must be what the provider reads."""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import ValidationError

Event = dict[str, Any]


class _DuplicateError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> Event:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateError
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON.")


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant).decode
"""Not orjson: of two members of one name it keeps the last without a word, and a provider may keep the first."""


def read_frame(text: str) -> Event:
    """A client's event. Raises `ValidationError`."""
    try:
        event = _decode(text)
    except _DuplicateError as error:
        raise ValidationError("The event has a member twice.") from error
    except (ValueError, RecursionError) as error:
        raise ValidationError("The frame is not valid JSON.") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ValidationError("The frame is no event: it must be an object with a type.", param="type")
    return event
