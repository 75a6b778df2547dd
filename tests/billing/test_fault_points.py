"""Fault points: orders that are understood, and that each named place exists once."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from billing import fault_points
from billing.fault_points import POINTS, FaultPointError, arm, fault_point
from tests.engines import ROOT


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.mark.parametrize(
    "order", ["nowhere:kill", "mid_stream", "mid_stream:sleep", "mid_stream:kill:0", "mid_stream:kill:x", "kill"]
)
def test_an_order_that_means_nothing_is_refused(order: str) -> None:
    with pytest.raises(FaultPointError, match="is one of before_reserve"):
        arm(order)


def test_it_strikes_once_when_its_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    struck: list[int] = []
    monkeypatch.setattr(fault_points.os, "kill", lambda _, number: struck.append(number))
    arm("mid_stream:kill:3, before_void:kill")
    for name in ("mid_stream", "before_settle", "mid_stream"):
        fault_point(name)
    assert struck == []
    fault_point("mid_stream")
    assert struck == [signal.SIGKILL]
    for name in ("mid_stream", "before_void", "before_void"):
        fault_point(name)
    assert struck == [signal.SIGKILL] * 2
    arm("")
    fault_point("before_void")
    assert struck == [signal.SIGKILL] * 2


def test_every_name_stands_in_the_code() -> None:
    sources = [path.read_text() for room in ("gateway", "billing") for path in (ROOT / room).rglob("*.py")]
    named = Counter(name for source in sources for name in re.findall(r"fault_point\(\s*\"(\w+)\"", source))
    statements = {f"{verb}_sent_not_acknowledged" for verb in ("reserve", "settle")}
    assert set(named) == set(POINTS) - statements
