"""What a call is, and what becomes of it."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from billing.budgets import BudgetRule
from billing.pricing import PriceVersion
from gateway.limit_buckets import Lease
from providers.types import Target, Usage, WireRequest
from tenants.selectors import Principal, RateLimitRule


@dataclass(frozen=True, slots=True)
class Caller:
    """A key with what its tenant may ask for."""

    principal: Principal
    approved: frozenset[str]
    budgets: tuple[BudgetRule, ...]
    rate_limits: tuple[RateLimitRule, ...]
    zone: ZoneInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Whom a call is counted for, besides its key. Each at most 256 characters, empty when not given."""

    user: str = ""
    conversation: str = ""
    agent: str = ""
    agent_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that has been authenticated and parsed: nothing of it changes on its way through the pipeline."""

    caller: Caller
    request_id: str
    operation: str
    requested_model: str
    needs: frozenset[str]
    """The capabilities a model must have to answer it."""
    wire: WireRequest
    input_bytes: int
    """How long the client's input is, for counting what a provider does not report."""
    max_output_tokens: int | None = None
    """The client's own limit for each answer."""
    choices: int = 1
    """How many answers it asks for."""
    wants_usage_chunk: bool = False
    attribution: Attribution = Attribution()


@dataclass(slots=True)
class Trace:
    """What has happened to a request so far; the answer's headers, the log line and the metrics read it."""

    request_id: str
    operation: str = ""
    started: float = field(default_factory=time.perf_counter)
    started_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    caller: Caller | None = None
    requested_model: str = ""
    stream: bool = False
    target: Target | None = None
    price: PriceVersion | None = None
    attempts: list[str] = field(default_factory=list)
    """One entry for each attempt: the provider, and how it failed if it did."""
    upstream_seconds: float = 0.0
    """How long we waited for providers until their answer (a stream: its first content) was there."""
    first_content_ms: int | None = None
    usage: Usage | None = None
    cost_nano_usd: int | None = None
    """None while nothing is charged, and for a model without a price: that is unknown, not free."""
    lease: Lease | None = None
    """What rate limits count for the request until it is over."""
    limit_headers: dict[str, str] = field(default_factory=dict)
    status: int = 0
    error_code: str = ""

    def elapsed_seconds(self) -> float:
        """Since the request arrived."""
        return time.perf_counter() - self.started

    def elapsed_ms(self) -> int:
        """Whole milliseconds since the request arrived."""
        return int(self.elapsed_seconds() * 1000)
