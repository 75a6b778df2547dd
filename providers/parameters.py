"""What becomes of each member of a client's request at a provider that does not speak OpenAI's protocol. No Django.

Every such adapter has a table from member to `Handling`. A member that is in no table is dropped: providers refuse
members they do not know, and a client that sends one more than this provider understands still wants its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from providers.errors import UnsupportedError


class Handling(Enum):
    """What an adapter does with a member."""

    TRANSLATED = "translated"
    """The adapter sends it, in the provider's words."""
    GATEWAY = "gateway"
    """The gateway has used it already; for a provider it has no meaning that could be lost."""
    DROPPED = "dropped"
    """Not sent. The answer comes without its effect, and a header names it."""
    REFUSED = "refused"
    """The client would not get what it asked for: the request is refused."""


FOR_THE_GATEWAY = dict.fromkeys(
    ("model", "stream", "stream_options", "async", "metadata", "store", "user", "safety_identifier"), Handling.GATEWAY
)
"""A table begins with these."""

ASKS_NOTHING = frozenset({b"null", b"false", b"0", b"0.0", b'""', b"[]", b"{}"})
"""Values that are the same as leaving the member out, for every member that is not translated."""

DEFAULTS = {"n": b"1", "modalities": b'["text"]', "service_tier": b'"auto"', "function_call": b'"none"'}
"""Values that ask for what every provider does anyway."""


def dropped_parameters(
    members: Mapping[str, msgspec.Raw], table: Mapping[str, Handling], *, provider: str
) -> list[str]:
    """The members that are not sent. Raises `UnsupportedError` for one that may not be left out."""
    dropped = []
    for name, raw in members.items():
        handling = table.get(name, Handling.DROPPED)
        if handling is Handling.TRANSLATED or handling is Handling.GATEWAY:
            continue
        value = bytes(raw)
        if value in ASKS_NOTHING or value == DEFAULTS.get(name):
            continue
        if handling is Handling.REFUSED:
            raise UnsupportedError(name, f"{provider} does not offer {name}.", param=name)
        dropped.append(name)
    return dropped
