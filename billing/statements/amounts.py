"""What a subtotal comes to: markup and rounding in whole numbers, each rounded once, half away from zero."""

from __future__ import annotations

from dataclasses import dataclass

NANO_PER_CENT = 10_000_000
BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """subtotal + markup + rounding = total; only the total is in cents."""

    subtotal_nano_usd: int
    markup_nano_usd: int
    rounding_nano_usd: int
    total_cents: int


def amounts_of(subtotal_nano_usd: int, markup_basis_points: int) -> Amounts:
    """What a tenant owes for charges at cost; a credit is negative and mirrors the charge."""
    markup = _rounded(subtotal_nano_usd * markup_basis_points, BASIS_POINTS)
    cents = _rounded(subtotal_nano_usd + markup, NANO_PER_CENT)
    return Amounts(
        subtotal_nano_usd=subtotal_nano_usd,
        markup_nano_usd=markup,
        rounding_nano_usd=cents * NANO_PER_CENT - subtotal_nano_usd - markup,
        total_cents=cents,
    )


def difference(after: Amounts, before: Amounts) -> Amounts:
    """What turns one into the other. Credits are reckoned so: all together take off exactly what was charged."""
    return Amounts(
        subtotal_nano_usd=after.subtotal_nano_usd - before.subtotal_nano_usd,
        markup_nano_usd=after.markup_nano_usd - before.markup_nano_usd,
        rounding_nano_usd=after.rounding_nano_usd - before.rounding_nano_usd,
        total_cents=after.total_cents - before.total_cents,
    )


def _rounded(numerator: int, denominator: int) -> int:
    """A quotient, half away from zero."""
    quotient = (abs(numerator) + denominator // 2) // denominator
    return quotient if numerator >= 0 else -quotient
