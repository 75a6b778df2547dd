"""Several embeddings calls as one, and one answer as several: pure, but for the future each call waits on."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from billing.counting import charged_units
from billing.money import nano_from_pico
from billing.pricing import PriceVersion
from billing.splits import split
from providers.errors import Failure, ProviderError
from providers.types import Answer, UpstreamRequest, Usage, WireRequest

BYTES_PER_TOKEN = 2
"""Fewer than any text has on average: a batch must stay within the provider's limit also where tokens are short."""

OWN_MEMBERS = frozenset({"input", "user"})
"""Members in which calls that leave together may differ."""

_decode, _encode = msgspec.json.decode, msgspec.json.encode
_Members = dict[str, msgspec.Raw]


class MiscountError(ProviderError):
    """An answer that cannot be dealt out: it has not one vector for each input."""

    def __init__(self, found: int, asked: int) -> None:
        super().__init__(Failure.BROKEN, f"The provider sent {found} embeddings for {asked} inputs.")


class Share(NamedTuple):
    """A call's part of an answer. `cost_nano_usd` None: it costs what its own usage comes to."""

    answer: Answer
    cost_nano_usd: int | None


@dataclass(slots=True, eq=False, kw_only=True)
class Seat:
    """One call's place in a batch."""

    wire: WireRequest
    items: Sequence[msgspec.Raw]
    tokens: Sequence[int]
    """An upper bound for each item, by which limits are kept and usage is shared out."""
    price: PriceVersion | None
    service_tier: str
    begun_at: dt.datetime
    share: asyncio.Future[Share]
    dispatching: Callable[[UpstreamRequest, bool], None]
    """Told just before the request leaves, and whether this call speaks for how the deployment is doing."""
    accepted: Callable[[], None]
    """Told when the provider has answered with a 2xx."""
    is_dispatched: bool = False

    def dispatch(self, request: UpstreamRequest, *, leads: bool) -> None:
        """Tell the call that it leaves, once; one that is gone is not told."""
        if not self.is_dispatched and not self.share.done():
            self.is_dispatched = True
            self.dispatching(request, leads)


def items_of(wire: WireRequest) -> tuple[list[msgspec.Raw], str, list[int]]:
    """A request's inputs as they were written, whether they are texts or tokens, and their tokens at most."""
    given = wire.members["input"]
    raw = bytes(given).lstrip()
    if not raw.startswith(b"["):
        return [given], "texts", [_most_tokens(given)]
    items = _decode(given, type=list[msgspec.Raw])
    first = bytes(items[0]).lstrip()
    if first.startswith(b'"'):
        return items, "texts", [_most_tokens(item) for item in items]
    if first.startswith(b"["):
        return items, "tokens", [bytes(item).count(b",") + 1 for item in items]
    return [given], "tokens", [len(items)]


def _most_tokens(text: msgspec.Raw) -> int:
    return -(-len(bytes(text)) // BYTES_PER_TOKEN)


def members_in_common(wire: WireRequest) -> tuple[tuple[str, bytes], ...]:
    """What a request says besides its inputs."""
    return tuple(sorted((name, bytes(raw)) for name, raw in wire.members.items() if name not in OWN_MEMBERS))


def merged(seats: Sequence[Seat]) -> WireRequest:
    """One request for all; that of a call which is alone stays as it is."""
    first = seats[0].wire
    if len(seats) == 1:
        return first
    members = {name: raw for name, raw in first.members.items() if name not in OWN_MEMBERS}
    members["input"] = msgspec.Raw(b"[%b]" % b",".join(bytes(item) for seat in seats for item in seat.items))
    users = {bytes(seat.wire.members.get("user", b"null")) for seat in seats}
    if len(users) == 1 and "user" in first.members:  # of several users none can be named
        members["user"] = first.members["user"]
    return msgspec.structs.replace(first, members=members)


def shares_of(seats: Sequence[Seat], answer: Answer) -> list[Share]:
    """Each call's own answer, usage and cost. Usage is shared out by the length of inputs, and both add up to what the
    one call used and costs, to the token and the nano-USD. Raises `ProviderError`."""
    if len(seats) == 1:
        return [Share(answer, None)]
    bodies = _bodies(seats, answer.body)
    usages = _usages(seats, answer.usage)
    answers = [
        Answer(body=_encode(_with_usage(body, usage)), usage=usage, text_bytes=0)
        for body, usage in zip(bodies, usages, strict=True)
    ]
    costs = _costs(seats, usages)
    return [Share(own, cost) for own, cost in zip(answers, costs, strict=True)]


def _bodies(seats: Sequence[Seat], body: bytes) -> list[_Members]:
    try:
        whole = _decode(body, type=_Members)
        data = _decode(whole["data"], type=list[_Members])
        by_place = {_decode(item["index"], type=int): item for item in data}
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error
    asked = sum(len(seat.items) for seat in seats)
    if len(data) != asked or by_place.keys() != set(range(asked)):
        raise MiscountError(len(by_place), asked)
    bodies, start = [], 0
    for seat in seats:
        own = [{**by_place[start + index], "index": msgspec.Raw(b"%d" % index)} for index in range(len(seat.items))]
        bodies.append({**whole, "data": msgspec.Raw(_encode(own))})
        start += len(seat.items)
    return bodies


def _with_usage(body: _Members, usage: Usage | None) -> _Members:
    if usage is None or usage.problem or "usage" not in body:
        return {name: raw for name, raw in body.items() if name != "usage"}
    counted = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return {**body, "usage": msgspec.Raw(_encode(counted))}


def _usages(seats: Sequence[Seat], usage: Usage | None) -> Sequence[Usage | None]:
    """A report that cannot be true is everybody's: each is charged by its own bound."""
    if usage is None or usage.problem:
        return [usage] * len(seats)
    weights = [sum(seat.tokens) for seat in seats]
    parts = {unit: split(count, weights) for unit, count in usage.units.items()}
    inputs = split(usage.input_tokens, weights)
    raw = _encode({"batch_of": len(seats), "usage_of_the_batch": msgspec.Raw(usage.raw)})
    return [
        Usage(
            units={unit: shares[place] for unit, shares in parts.items() if shares[place]},
            input_tokens=inputs[place],
            output_tokens=0,
            service_tier=usage.service_tier,
            raw=raw,
        )
        for place in range(len(seats))
    ]


def _costs(seats: Sequence[Seat], usages: Sequence[Usage | None]) -> list[int | None]:
    """The price of all their units, rounded once, and shared out by what each one's come to exactly."""
    exact = []
    for seat, usage in zip(seats, usages, strict=True):
        if seat.price is None or usage is None or usage.problem:
            return [None] * len(seats)
        units = charged_units(usage, seat.price, service_tier=seat.service_tier, moment=seat.begun_at)
        exact.append(seat.price.cost_pico_usd(units))
    return list(split(nano_from_pico(sum(exact)), exact))
