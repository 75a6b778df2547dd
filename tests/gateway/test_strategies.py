"""The order in which each strategy tries deployments. Pure: no network, a board that is told what it knows."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from gateway.strategies import STRATEGIES, View
from providers.models import Strategy
from providers.selectors import WeightedTarget
from providers.types import Target


def deployment(number: int, *, priority: int = 1, weight: int = 1) -> WeightedTarget:
    target = Target(
        deployment_id=number, model_id=number, model_name=f"m{number}", provider_name="p", kind="mock", base_url="mock://",
        allow_private_network=False, secret=None, upstream_model="m",
    )  # fmt: skip
    return WeightedTarget(target=target, priority=priority, weight=weight)


def view(*, seconds: dict[int, float] | None = None, busy: dict[int, int] | None = None, prices: Any = None) -> View:
    def standing(number: int) -> Any:
        return SimpleNamespace(first_content_seconds=(seconds or {}).get(number), in_flight=(busy or {}).get(number, 0))

    call: Any = SimpleNamespace(input_bytes=4000, max_output_tokens=100, choices=1)
    return View(call, SimpleNamespace(started_at=None), SimpleNamespace(standing=standing), prices)  # type: ignore[arg-type]


def order(strategy: Strategy, members: list[tuple[WeightedTarget, ...]], seen: View) -> list[int]:
    return [target.deployment_id for target in STRATEGIES[strategy](members, seen)]


def test_every_strategy_has_its_function() -> None:
    assert set(STRATEGIES) == set(Strategy.values)


def test_priority_goes_member_by_member() -> None:
    members = [(deployment(1), deployment(2, priority=2)), (deployment(3),)]
    assert order(Strategy.PRIORITY, members, view()) == [1, 2, 3]


def test_weighted_follows_the_weights_over_all_members() -> None:
    members = [(deployment(1, weight=1),), (deployment(2, weight=9),)]
    first = Counter(order(Strategy.WEIGHTED, members, view())[0] for _ in range(2000))
    assert 1650 < first[2] < 1950, "1800 are expected; this is eleven standard deviations"


def test_lowest_cost_comes_first_and_no_price_last() -> None:
    class Prices:
        def at(self, model_id: int, moment: Any) -> Any:
            return {1: None, 2: Price(20), 3: Price(10)}[model_id]

    class Price:
        def __init__(self, each: int) -> None:
            self.each = each

        def cost_nano_usd(self, units: dict[str, int]) -> int:
            return self.each * (units["input"] + units["output"])

    members = [(deployment(1),), (deployment(2),), (deployment(3),)]
    assert order(Strategy.LOWEST_COST, members, view(prices=Prices())) == [3, 2, 1]


def test_lowest_latency_is_the_faster_of_two() -> None:
    members = [(deployment(1), deployment(2)), (deployment(3),)]
    seen = view(seconds={1: 0.3, 2: 0.2, 3: 0.1})
    orders = [order(Strategy.LOWEST_LATENCY, members, seen) for _ in range(200)]
    assert {one[0] for one in orders} == {3, 2}, "never the slowest, and not always the fastest"
    assert all(sorted(one) == [1, 2, 3] for one in orders)
    assert order(Strategy.LOWEST_LATENCY, [(deployment(1), deployment(2))], view(seconds={1: 0.3}))[0] == 2, "unknown"


def test_least_busy_for_its_weight() -> None:
    members = [(deployment(1, weight=4), deployment(2)), (deployment(3),)]
    assert order(Strategy.LEAST_BUSY, members, view(busy={1: 4, 2: 3, 3: 2})) == [1, 3, 2]
