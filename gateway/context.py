"""What a call is, and what becomes of it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from billing.budgets import BudgetRule
from billing.pricing import PriceVersion
from gateway.caching.rules import CacheRule
from gateway.caching.wishes import NO_WISH, CacheWish
from gateway.hooks.selectors import BoundHook
from gateway.limit_buckets import Lease
from gateway.schemas.expectations import Expectation
from providers.types import Target, Usage, WireRequest
from providers.usage import added
from tenants.selectors import Principal, RateLimitRule

if TYPE_CHECKING:
    from gateway.audit.kept_texts import CallText
    from gateway.jobs.running import JobRun
    from gateway.jobs.wishes import Wish


@dataclass(frozen=True, slots=True)
class Caller:
    """A key with what its tenant may ask for."""

    principal: Principal
    approved: frozenset[str]
    budgets: tuple[BudgetRule, ...]
    rate_limits: tuple[RateLimitRule, ...]
    zone: ZoneInfo
    hooks: tuple[BoundHook, ...] = ()
    """What is asked about its calls, in order."""
    cache_rules: Mapping[str, CacheRule] = field(default_factory=dict)
    """By model or group; empty for a tenant whose answers are not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Whom a call is counted for, besides its key. Each at most 256 characters, empty when not given."""

    user: str = ""
    conversation: str = ""
    agent: str = ""
    agent_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """What a call's pictures, sound, films and documents may cost, in or out. A plain chat has none."""

    input_tokens: int = 0
    """The most that what is sent can be, beside the text."""
    output_tokens: int | None = None
    """The most that each answer can be, where that is no chat's."""
    known: Mapping[str, int] = field(default_factory=dict)
    """Billable units that are sure before the call: characters to be spoken, seconds to be heard, pages to be read."""
    held: Mapping[str, int] = field(default_factory=dict)
    """The most of other billable units that an answer can come to: pictures, seconds of speech."""

    def bound(self) -> dict[str, int]:
        """Every unit that is no token, at its most."""
        return {**self.known, **self.held}


NO_MEDIA = MediaFacts()


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
    service_tier: str = ""
    """What the client asked for; empty where it left that to the provider."""
    wants_usage_chunk: bool = False
    media: MediaFacts = NO_MEDIA
    attribution: Attribution = Attribution()
    expected: Expectation | None = None
    """What the answer is held to; None for nothing."""
    cache_wish: CacheWish = NO_WISH
    may_batch: bool = False
    """Whether it may leave as one call to the provider together with others."""


MOST_FIELDS = 50


class AttemptNote(msgspec.Struct, kw_only=True):
    """One attempt as the trace tells it. `attempt` is its id in the ledger, where its cost is."""

    attempt: str
    deployment: int
    model: str
    provider: str
    outcome: str = "under way"
    message: str = ""
    started_ms: int = 0
    """Since the request's arrival."""
    elapsed_ms: int | None = None


class HookNote(msgspec.Struct, kw_only=True):
    """What a hook said, and which fields it changed: nothing of what stood in them."""

    binding: str
    hook: str
    stage: str
    verdict: str = "allow"
    """allow, block, modify, or failed."""
    fields: list[str] = []
    problem: str = ""
    """How it failed."""
    elapsed_ms: int = 0

    def add_fields(self, paths: Iterable[str]) -> None:
        """Name what it changed, each once and not all of a document with very many."""
        self.fields = list(dict.fromkeys([*self.fields, *(path[:100] for path in paths)]))[:MOST_FIELDS]


class Decision(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a routing decision rested on, to be explained and tried against another routing. Sizes and names only."""

    name: str = ""
    """The model or group that was asked for, `auto` resolved."""
    strategy: str = ""
    """Of the group; empty for a model asked for by its name."""
    order: list[tuple[int, str, str]] = []
    """Deployment, model and provider of each that could have been asked, best first."""
    needs: list[str] = []
    input_bytes: int = 0
    max_output_tokens: int | None = None
    choices: int = 1
    service_tier: str = ""


@dataclass(slots=True)
class Ranking:
    """How a call was routed, as routing leaves it: nothing is copied while the client waits."""

    call: Call
    name: str = ""
    strategy: str = ""
    targets: Sequence[Target] = ()

    def decision(self, *, at_most: int) -> Decision:
        """For the log, with so many candidates."""
        call = self.call
        return Decision(
            name=self.name[:200],
            strategy=self.strategy,
            order=[(one.deployment_id, one.model_name, one.provider_name) for one in self.targets[:at_most]],
            needs=sorted(call.needs),
            input_bytes=call.input_bytes,
            max_output_tokens=call.max_output_tokens,
            choices=call.choices,
            service_tier=call.service_tier,
        )


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
    notes: list[AttemptNote] = field(default_factory=list)
    """The same at length, for whoever asks why."""
    validation: str = ""
    """What became of an answer that is held to a schema: valid, repaired, reasked or failed."""
    hooks: list[HookNote] = field(default_factory=list)
    """What hooks said."""
    dropped_parameters: tuple[str, ...] = ()
    """Members of the request that the provider asked last has no use for and was not sent."""
    ranking: Ranking | None = None
    """What routing was asked and in which order it put the candidates."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """What was considered and not asked, a model or a deployment, and why."""
    upstream_seconds: float = 0.0
    """How long we waited for providers until their answer (a stream: its first content) was there."""
    first_content_ms: int | None = None
    usage: Usage | None = None
    cost_nano_usd: int | None = None
    """Of all attempts that were charged. None while nothing is, and for a model without a price: that is unknown, not
    free."""
    text: CallText | None = None
    """What the client sent and gets, where its tenant keeps that."""
    lease: Lease | None = None
    """What rate limits count for the request until it is over."""
    idempotent: bool = False
    """Whether it holds an idempotency key or is a job's, so that nobody else makes this call."""
    deferral: Wish | None = None
    """How the client wants its call to become a job; None: it waits for the answer."""
    job: JobRun | None = None
    """The job that this call is made for."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What a job's typed view tells of the request."""
    replay_of: str = ""
    """The id of the request whose answer is given again."""
    cache: str = ""
    """`hit`, `miss` or `skip` where a cache rule is about the call."""
    cache_age_seconds: int = 0
    cancelled: bool = False
    """Whether it was cancelled through the API; its task has been told."""
    stream_begun: bool = False
    """Whether its client has the head of a stream, so that only an event can tell it more."""
    limit_headers: dict[str, str] = field(default_factory=dict)
    status: int = 0
    error_code: str = ""

    @property
    def deployments_asked(self) -> int:
        """How many deployments attempts were made at."""
        return len({note.deployment for note in self.notes})

    def charged(self, usage: Usage, cost_nano_usd: int | None) -> None:
        """Count what an attempt came to. An answer that had to be asked for again has two."""
        if self.usage is not None:
            usage = added(self.usage, usage)
        if self.cost_nano_usd is not None:
            cost_nano_usd = self.cost_nano_usd + (cost_nano_usd or 0)
        self.usage, self.cost_nano_usd = usage, cost_nano_usd

    def elapsed_seconds(self) -> float:
        """Since the request arrived."""
        return time.perf_counter() - self.started

    def elapsed_ms(self) -> int:
        """Whole milliseconds since the request arrived."""
        return int(self.elapsed_seconds() * 1000)
