"""Money as integers: nano-USD for charges, pico-USD for the price of one unit. No floats anywhere."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

NANO_PER_USD = 1_000_000_000
PICO_PER_NANO = 1_000
UNITS_PER_PRICE = 1_000_000
"""Prices are quoted in USD per million units."""

PICO_PER_USD_PER_MILLION = 1_000_000
"""1 USD per million units is 10**12 pico-USD / 10**6 units."""

HIGHEST_PRICE_USD = Decimal("100000")
"""Per million units. The dearest model of 2026 costs 600; a figure beyond this was typed per unit by mistake."""

HIGHEST_AMOUNT_USD = Decimal("10000000")
"""Of a budget's limit. More than ten million a period was typed in the wrong unit, and would be no limit."""

NANO_USD = Decimal("1e-9")


def pico_from_usd_per_million(text: str) -> int:
    """Turn a price such as "0.15" (USD per million units) into pico-USD per unit.

    Raises ValueError for what is negative, not a number, finer than a pico-USD or beyond `HIGHEST_PRICE_USD`.
    """
    try:
        price = Decimal(text)
    except (InvalidOperation, TypeError) as error:
        raise ValueError(f"{text!r} is not a price; write USD per million units, such as 0.15.") from error
    if not price.is_finite() or price < 0:
        raise ValueError(f"{text!r} is not a price: it must be zero or more.")
    if price > HIGHEST_PRICE_USD:
        raise ValueError(f"{text} USD per million units is beyond {HIGHEST_PRICE_USD}: was it meant per unit?")
    pico = price * PICO_PER_USD_PER_MILLION
    if pico != int(pico):
        raise ValueError(f"{text} is finer than a millionth of a USD per million units.")
    return int(pico)


def nano_from_usd(text: str) -> int:
    """Turn an amount such as "100" or "0.25" (USD) into nano-USD.

    Raises ValueError for what is negative, not a number, finer than a nano-USD or beyond `HIGHEST_AMOUNT_USD`.
    """
    try:
        amount = Decimal(text)
    except (InvalidOperation, TypeError) as error:
        raise ValueError(f"{text!r} is not an amount; write USD, such as 100 or 0.25.") from error
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{text!r} is not an amount: it must be zero or more.")
    if amount > HIGHEST_AMOUNT_USD:
        raise ValueError(f"{text} USD is beyond {HIGHEST_AMOUNT_USD}: was it meant in another unit?")
    if amount % NANO_USD:
        raise ValueError(f"{text} is finer than a billionth of a USD.")
    return int(amount / NANO_USD)


def usd_per_million(pico: int) -> str:
    """Write pico-USD per unit as USD per million units, without trailing zeros."""
    return plain(Decimal(pico) / PICO_PER_USD_PER_MILLION)


def usd(nano: int) -> str:
    """Write nano-USD as USD, exactly, without trailing zeros."""
    return plain(Decimal(nano) / NANO_PER_USD)


def plain(amount: Decimal) -> str:
    """A decimal without exponent and trailing zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def nano_from_pico(pico: int) -> int:
    """Round half up, once, where a charge is posted."""
    return (pico + PICO_PER_NANO // 2) // PICO_PER_NANO
