"""Named places where a process can be told to die, so that tests can kill it at the worst moments there are.

For development: the setting FAULT_POINTS arms them. While none is armed, passing one costs a look at a constant.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "before_reserve",
    "reserve_sent_not_acknowledged",
    "after_reserve_commit",
    "spool_written",
    "before_dispatch",
    "after_dispatch_mark",
    "after_headers",
    "first_chunk",
    "mid_stream",
    "before_final_usage",
    "after_final_usage",
    "before_settle",
    "after_settle_mark",
    "settle_sent_not_acknowledged",
    "after_settle_commit",
    "before_void",
)
"""In the order a call passes them."""

_passes_left: dict[str, int] | None = None
"""How often each armed point is passed until it strikes; None while nothing is armed."""


class FaultPointError(ValueError):
    """An order that names no fault point, or asks of it what it cannot do."""


def arm(order: str) -> None:
    """Take an order such as `mid_stream:kill` or `mid_stream:kill:3` (the third time), several with commas between;
    an empty one disarms. Raises `FaultPointError`."""
    global _passes_left
    armed: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in order.split(","))):
        name, _, rest = part.partition(":")
        action, _, times = rest.partition(":")
        if name not in POINTS or action != "kill" or not (times or "1").isdecimal() or times == "0":
            raise FaultPointError(f"{part!r} is not NAME:kill or NAME:kill:TIMES; NAME is one of {', '.join(POINTS)}.")
        armed[name] = int(times or 1)
    _passes_left = armed or None


def fault_point(name: str) -> None:
    """Die here if told so."""
    if _passes_left is not None and name in _passes_left:
        _passes_left[name] -= 1
        if _passes_left[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
