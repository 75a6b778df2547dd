"""What the usage explorer counts: how each measure is ranked, drawn and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from billing.analytics.latency import COLUMNS as LATENCIES
from billing.analytics.queries import Measured
from billing.money import NANO_PER_USD
from gateway.desk.scales import Number

Read = Callable[[Measured], Number | None]


def _usd(nano: int) -> Decimal:
    return Decimal(nano) / NANO_PER_USD


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of some usage. What cannot be added up is drawn as lines, the rest as bars."""

    title: str
    unit: str
    read: Read
    order: str
    """One of `billing.analytics.queries.ORDERS`."""
    columns: tuple[str, ...]
    """What `read` reads."""
    adds_up: bool = True


MEASURES = {
    "requests": Measure("Requests", "requests", lambda sums: sums.calls, "calls", ("calls",)),
    "cost": Measure(
        "Cost", "USD", lambda sums: _usd(sums.cost_nano_usd), "cost", ("known_nano_usd", "estimated_nano_usd")
    ),
    "input_tokens": Measure(
        "Input tokens", "tokens", lambda sums: sums.input_tokens, "input_tokens", ("input_tokens",)
    ),
    "output_tokens": Measure(
        "Output tokens", "tokens", lambda sums: sums.output_tokens, "output_tokens", ("output_tokens",)
    ),
    "cache_read_tokens": Measure(
        "Tokens read from a cache",
        "tokens",
        lambda sums: sums.cache_read_tokens,
        "cache_read_tokens",
        ("cache_read_tokens",),
    ),
    "cache_write_tokens": Measure(
        "Tokens written to a cache",
        "tokens",
        lambda sums: sums.cache_write_tokens,
        "cache_write_tokens",
        ("cache_write_tokens",),
    ),
    "reasoning_tokens": Measure(
        "Reasoning tokens", "tokens", lambda sums: sums.reasoning_tokens, "reasoning_tokens", ("reasoning_tokens",)
    ),
    "latency_p50": Measure("Latency, p50", "ms", lambda sums: sums.latency_ms(0.5), "calls", LATENCIES, adds_up=False),
    "latency_p95": Measure("Latency, p95", "ms", lambda sums: sums.latency_ms(0.95), "calls", LATENCIES, adds_up=False),
    "errors": Measure(
        "Errors", "calls to a provider", lambda sums: sums.errors, "errors", ("failed_calls", "voided_calls")
    ),
    "cache_hits": Measure("Cache hits", "requests", lambda sums: sums.cache_hits, "cache_hits", ("cache_hits",)),
}
"""By the name in the address."""

COLUMNS: tuple[tuple[str, Read], ...] = (
    ("Requests", lambda sums: sums.calls),
    ("Known cost, USD", lambda sums: _usd(sums.known_nano_usd)),
    ("Estimated cost, USD", lambda sums: _usd(sums.estimated_nano_usd)),
    ("Requests of unknown cost", lambda sums: sums.unknown_cost_calls),
    ("Errors", lambda sums: sums.errors),
    ("Cache hits", lambda sums: sums.cache_hits),
    ("Latency p50, ms", lambda sums: sums.latency_ms(0.5)),
    ("Latency p95, ms", lambda sums: sums.latency_ms(0.95)),
    ("Input tokens", lambda sums: sums.input_tokens),
    ("Output tokens", lambda sums: sums.output_tokens),
    ("Cache read tokens", lambda sums: sums.cache_read_tokens),
    ("Cache write tokens", lambda sums: sums.cache_write_tokens),
    ("Reasoning tokens", lambda sums: sums.reasoning_tokens),
)
"""The table's and the files'."""
