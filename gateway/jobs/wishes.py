"""How a client says that it does not want to wait: `"async": true` in the body, or RFC 7240's `Prefer`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import ValidationError

if TYPE_CHECKING:
    from gateway.handler import DataPlaneRequest

MEMBER = "async"
LONGEST_WAIT_SECONDS = 600
"""OpenAI's SDKs have given up by then."""

_WAIT = re.compile(r"wait\s*=\s*\"?(.*?)\"?")
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_truth = msgspec.json.Decoder(bool).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a client prefers."""

    respond_async: bool
    """False where it wants the answer itself, of work that a provider does by itself."""
    wait_seconds: int | None = None
    """How long it would wait for that."""

    @property
    def applied(self) -> str:
        """The value of `Preference-Applied`; empty for nothing."""
        told = ["respond-async"] if self.respond_async else []
        return ", ".join([*told, f"wait={self.wait_seconds}"] if self.wait_seconds is not None else told)


def read_wish(request: DataPlaneRequest) -> Wish | None:
    """What the client prefers, None for nothing, with the body's member taken out. Raises `ValidationError`."""
    asked = _of_form(request) if request.form is not None else _of_body(request)
    prefers, wait_seconds = _of_header(request.META.get("HTTP_PREFER", ""))
    if asked is False and prefers:
        raise ValidationError("async is false, and Prefer says respond-async.", param=MEMBER)
    if asked is None and not prefers and wait_seconds is None:
        return None
    return Wish(respond_async=bool(asked) or prefers, wait_seconds=wait_seconds)


def _of_body(request: DataPlaneRequest) -> bool | None:
    if b'"async"' not in request.body:
        return None
    try:
        members = _decode_members(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # its endpoint says what is wrong with it
    if MEMBER not in members:
        return None
    try:
        asked = _decode_truth(members.pop(MEMBER))
    except msgspec.ValidationError as error:
        raise ValidationError("async is true or false.", param=MEMBER) from error
    request.replace_body(msgspec.json.encode(members))
    return asked


def _of_form(request: DataPlaneRequest) -> bool | None:
    form = request.form
    assert form is not None
    text = form.text(MEMBER)
    form.fields = [(name, value) for name, value in form.fields if name != MEMBER]
    if text not in (None, "true", "false"):
        raise ValidationError("async is true or false.", param=MEMBER)
    return None if text is None else text == "true"


def _of_header(value: str) -> tuple[bool, int | None]:
    """Whether `respond-async` is preferred, and how long to wait; other preferences are nobody's here."""
    parts = [part.strip() for part in re.split("[,;]", value.lower()[:500])]
    waits = [found[1] for part in parts if (found := _WAIT.fullmatch(part)) is not None]
    if not waits:
        return "respond-async" in parts, None
    text = waits[0]
    if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text) <= LONGEST_WAIT_SECONDS):
        raise ValidationError(
            f"Prefer: wait is a whole number of seconds, at most {LONGEST_WAIT_SECONDS}.", param="Prefer"
        )
    return "respond-async" in parts, int(text)
