"""When a breaker opens, with time given by hand."""

from __future__ import annotations

import pytest

from gateway.health.breaker import BreakerPolicy, CallWindow, Circuit, State

POLICY = BreakerPolicy()


def outcomes(window: CallWindow, text: str, *, start: float = 0.0, every: float = 1.0) -> list[bool]:
    """Record calls: `+` good, `-` failed, `s` slow; what each of them says about opening."""
    return [
        window.record(start + number * every, failed=one == "-", slow=one == "s") for number, one in enumerate(text)
    ]


@pytest.mark.parametrize(
    ("calls", "opens"),
    [
        ("-----", True),
        ("----", False),
        ("----+----", False),
        ("+-+-+-+-+", False),  # half of them failed, but nine are too few to tell
        ("+-+-+-+-+-", True),
        ("++-+-+-++-", False),  # 40 %
        ("ssssssss++", False),  # what is judged is a bad call, and the last two were good
        ("++ssssssss", True),
        ("+++sssssss", False),
        ("++++++++++", False),
    ],
)
def test_what_opens(calls: str, opens: bool) -> None:
    *_, last = outcomes(CallWindow(POLICY), calls)
    assert last is opens


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = CallWindow(POLICY)
    outcomes(window, "-+-+-+-+-")  # five failures of nine
    assert outcomes(window, "+-+-+-+-+", start=POLICY.window_seconds + 9) == [False] * 9
    assert window.record(POLICY.window_seconds + 18, failed=True, slow=False)


def test_open_lasts_longer_each_time_and_a_success_of_all_probes_closes() -> None:
    circuit = Circuit(policy=POLICY)
    now, lasted = 0.0, []
    circuit.trip(now)
    for _ in range(6):
        lasted.append(circuit.until - now)
        assert circuit.is_open(circuit.until - 0.1) and not circuit.probe(circuit.until - 0.1)
        now = circuit.until
        assert circuit.probe(now)
        circuit.probed_with(False, now)
    assert lasted == [10, 20, 40, 80, 120, 120]
    now = circuit.until
    assert [circuit.probe(now) for _ in range(4)] == [True, True, True, False]
    for _ in range(3):
        assert circuit.state is State.HALF_OPEN
        circuit.probed_with(True, now)
    assert circuit.state is State.CLOSED and circuit.level == 0


def test_a_probe_that_says_nothing_is_given_back_and_one_that_never_ends_is_not_waited_for() -> None:
    circuit = Circuit(policy=POLICY)
    circuit.trip(0.0)
    assert [circuit.probe(10.0) for _ in range(4)] == [True, True, True, False]
    circuit.probed_with(None, 11.0)
    assert circuit.probe(11.0) and not circuit.probe(11.0)
    assert circuit.probe(10.0 + POLICY.probe_seconds + 0.1)


def test_a_later_failure_extends() -> None:
    circuit = Circuit(policy=POLICY)
    circuit.trip(0.0)
    circuit.trip(4.0)
    assert circuit.until == 14.0 and circuit.level == 0
