"""In which order a group's deployments are tried: one function for each routing strategy."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import groupby

import msgspec

from billing.counting import count_tokens
from billing.pricing import PriceList
from gateway.context import Call, Trace
from gateway.health.board import Health
from gateway.reservation import output_limit
from providers.models import Strategy
from providers.selectors import WeightedTarget
from providers.types import Target

TOKENS_WHEN_UNSAID = 512
"""How long an answer is assumed to be where the client set no limit: the order of prices hardly depends on it."""


class View(msgspec.Struct, frozen=True):
    """What strategies look at besides the deployments."""

    call: Call
    trace: Trace
    health: Health
    prices: PriceList


Members = Sequence[tuple[WeightedTarget, ...]]
"""The deployments that may answer, by member, in the group's order."""


def in_order(deployments: Sequence[WeightedTarget]) -> list[Target]:
    """By priority; deployments of one priority in a random order that follows their weights."""
    if len(deployments) == 1:
        return [deployments[0].target]
    ordered: list[Target] = []
    for _, peers in groupby(deployments, key=lambda deployment: deployment.priority):
        ordered.extend(_drawn(list(peers)))
    return ordered


def by_priority(members: Members, view: View) -> list[Target]:
    """Member by member."""
    return [target for deployments in members for target in in_order(deployments)]


def weighted(members: Members, view: View) -> list[Target]:
    """All members' deployments as one pool."""
    return _drawn(_all(members))


def lowest_cost(members: Members, view: View) -> list[Target]:
    """By what this request is expected to cost; a model without a price comes last."""
    return sorted(by_priority(members, view), key=lambda target: _expected_cost(target, view))


def lowest_latency(members: Members, view: View) -> list[Target]:
    """The faster of two drawn at random, then the others by their average.

    Of two, because all processes running to the one that is fastest would make it the slowest. A deployment that was
    never asked counts as fast, so that it becomes known.
    """
    targets = sorted(_drawn(_all(members)), key=lambda target: _latency(target, view))
    if len(targets) < 3:
        return targets
    first = min(random.sample(targets, 2), key=lambda target: _latency(target, view))
    return [first, *(target for target in targets if target is not first)]


def least_busy(members: Members, view: View) -> list[Target]:
    """By calls of this process under way, for each unit of weight."""
    drawn = _all(members)
    random.shuffle(drawn)
    ordered = sorted(drawn, key=lambda one: view.health.standing(one.target.deployment_id).in_flight / one.weight)
    return [one.target for one in ordered]


STRATEGIES: dict[str, Callable[[Members, View], list[Target]]] = {
    Strategy.PRIORITY: by_priority,
    Strategy.WEIGHTED: weighted,
    Strategy.LOWEST_COST: lowest_cost,
    Strategy.LOWEST_LATENCY: lowest_latency,
    Strategy.LEAST_BUSY: least_busy,
}


def _all(members: Members) -> list[WeightedTarget]:
    return [deployment for deployments in members for deployment in deployments]


def _drawn(peers: Sequence[WeightedTarget]) -> list[Target]:
    if len(peers) == 1:
        return [peers[0].target]
    drawn = sorted(peers, key=lambda deployment: random.random() ** (1 / deployment.weight), reverse=True)
    return [deployment.target for deployment in drawn]


def _latency(target: Target, view: View) -> float:
    return view.health.standing(target.deployment_id).first_content_seconds or 0.0


def _expected_cost(target: Target, view: View) -> float:
    price = view.prices.at(target.model_id, view.trace.started_at)
    if price is None:
        return float("inf")
    answer = view.call.max_output_tokens or min(output_limit(view.call, target), TOKENS_WHEN_UNSAID)
    units = {"input": count_tokens(view.call.input_bytes), "output": view.call.choices * answer, "requests": 1}
    return price.cost_nano_usd(units)
