"""Axes of charts: where the ticks are, and figures written short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

Number = int | Decimal
"""In the unit it is shown in: USD and percentages as Decimal, so that what is shown is exact."""

INTERVALS = 4
"""So many between an axis's ticks, or one more where there is something below zero."""
STEPS = (1, 2, 5, 10)
SHORT = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True)
class Axis:
    """A vertical axis from `ticks[0]` to `ticks[-1]`, which zero is always one of."""

    ticks: tuple[Number, ...]

    def share(self, figure: Number) -> float:
        """How far up the axis a figure is: 0 at its foot, 1 at its top."""
        low, high = Fraction(self.ticks[0]), Fraction(self.ticks[-1])
        return float((Fraction(figure) - low) / (high - low))


def axis_of(figures: Sequence[Number]) -> Axis:
    """The axis that shows these figures and zero, with round ticks; whole ones for whole figures."""
    low, high = min(0, *figures, 0), max(0, *figures, 0)
    whole = all(isinstance(figure, int) for figure in figures)
    step = _step(Fraction(high) - Fraction(low), whole=whole)
    first, last = _floor(Fraction(low) / step), -_floor(-Fraction(high) / step)
    if first == last:
        last += 1
    return Axis(tuple(_number(step * place) for place in range(first, last + 1)))


def _step(height: Fraction, *, whole: bool) -> Fraction:
    """The least round step by which an axis this high has no more than `INTERVALS`."""
    if not height:
        return Fraction(1)
    size = Fraction(1)
    while size * INTERVALS < height:
        size *= 10
    while size * INTERVALS / 10 >= height and not (whole and size == 1):
        size /= 10
    # The size above may be up to ten times too great: its smaller steps are tried first.
    smaller = [size * step / 10 for step in STEPS]
    return min(step for step in smaller if step * INTERVALS >= height and not (whole and step.denominator != 1))


def _floor(fraction: Fraction) -> int:
    return fraction.numerator // fraction.denominator


def _number(fraction: Fraction) -> int | Decimal:
    if fraction.denominator == 1:
        return fraction.numerator
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


def short(figure: Number) -> str:
    """A figure for an axis: 1,500 as 1.5k, at most three digits and a letter."""
    for size, letter in SHORT:
        if max(figure, -figure) >= size:
            return f"{float(figure) / size:.3g}{letter}"
    return f"{float(figure):.3g}"


def full(figure: Number) -> str:
    """A figure with all its digits, in groups of three."""
    text = f"{figure:,f}" if isinstance(figure, Decimal) else f"{figure:,}"
    return text.rstrip("0").rstrip(".") if "." in text else text
