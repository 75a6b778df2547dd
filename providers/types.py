"""What the gateway and the adapters say to each other. No Django, no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from providers.errors import ProviderError


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment, with everything needed to call it."""

    deployment_id: int
    model_id: int
    model_name: str
    provider_name: str
    kind: str
    base_url: str
    allow_private_network: bool
    secret: str | None
    upstream_model: str
    context_window: int | None = None
    max_output_tokens: int | None = None


class WireRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A client's request in OpenAI's shape, its top-level members still as the client's own bytes."""

    operation: str
    members: Mapping[str, msgspec.Raw]
    stream: bool = False
    max_output_tokens: int | None = None
    """The limit to send for each answer in place of the client's own; None: leave the request as it is."""


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What goes over the wire to a provider."""

    url: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider reports it used.

    `units` are disjoint billable amounts by name (`billing.pricing.UNITS`): tokens read from a cache are not in `input`
    again. The totals are for people and reports: `input_tokens` counts every token in, cached or not.
    """

    units: dict[str, int]
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    raw: bytes = b"{}"


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream.

    `data` is an OpenAI `chat.completion.chunk` as JSON, ready to be framed. `text_bytes` is how much the model said in
    it, for counting what a provider does not report. `usage_only` marks the closing chunk that has no choices.
    """

    data: bytes
    text_bytes: int = 0
    has_content: bool = False
    usage: Usage | None = None
    usage_only: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer in OpenAI's shape."""

    body: bytes
    usage: Usage | None
    text_bytes: int


class StreamDecoder(Protocol):
    """Turns a provider's bytes into chunks; does no I/O and may be fed any split of the bytes."""

    finished: bool
    """Whether the provider said that the stream is complete."""
    failure: ProviderError | None
    """Set by an error event or garbage; what came before it in the same bytes is still returned."""

    def feed(self, data: bytes) -> list[Chunk]:
        """Take the next bytes; never raises. After a failure nothing more is read."""
        ...


class Adapter(Protocol):
    """One provider protocol, as pure functions."""

    kind: str
    operations: frozenset[str]
    """Which operations it can build: `chat`, `embeddings`."""
    fixed_base_url: str | None
    """Set where the provider has only one possible base URL."""

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        """Write the provider's request."""
        ...

    def decoder(self) -> StreamDecoder:
        """A fresh decoder for one stream."""
        ...

    def parse_response(self, operation: str, body: bytes) -> Answer:
        """Read a whole 2xx answer. Raises `ProviderError` for garbage."""
        ...

    def parse_error(self, status: int, *, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Say what an answer that is not 2xx means."""
        ...
