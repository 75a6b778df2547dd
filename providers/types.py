"""What the gateway and the adapters say to each other. No Django, no network.

An adapter is one file in `providers/adapters/`: pure functions between OpenAI's shape and one provider's bytes. It is
given bytes and gives bytes; the transport moves them. All adapters have the same shape:

- `build_request`   OpenAI's request of one of its `operations` → the provider's. What each member becomes is a table
  in the file (`providers.parameters`): translated, dropped (and named in `dropped_parameters`), or refused.
- `decoder`         the provider's stream → OpenAI's chunks, whatever way the bytes were cut.
- `parse_response`  the provider's whole answer → OpenAI's, with usage in disjoint units.
- `parse_error`     any other status → why it failed, in terms the gateway decides on.
- `list_models`, `parse_models`, `check_health`   requests that cost nothing, and how to read the first.
- `capabilities`    what the protocol can carry at all; a model's own are in the registry.

Shared by adapters whose protocol is not OpenAI's: `providers.chat_requests` and `conversation` read the client's
request, `openai_shape` writes the answer, `failures` sorts statuses. None of them does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from providers.errors import ProviderError


class OnDisconnect(StrEnum):
    """What is done with a call to a provider whose client has left."""

    ABORT = "abort"
    """The connection is closed at once, which ends the provider's work and its bill; what it had said is counted."""
    DRAIN = "drain"
    """The provider works on and bills all of it whether or not anybody listens: the answer is read to its end."""


class TimeoutOverrides(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds where an operator wants others than the defaults; None: the default."""

    connect: int | None = None
    first_token: int | None = None
    idle: int | None = None
    total: int | None = None


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
    credential_id: int | None = None
    credential_version: int = 0
    """Changes whenever the credential's secret does."""
    timeouts: TimeoutOverrides = TimeoutOverrides()
    reasons: bool = False
    """Whether the model thinks before it answers, and is silent for longer."""
    context_window: int | None = None
    max_output_tokens: int | None = None
    on_disconnect: OnDisconnect = OnDisconnect.ABORT


class WireFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is sent with a request: the member it is, and what it holds."""

    field: str
    name: str
    media_type: str
    data: bytes


class WireRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A client's request in OpenAI's shape, its top-level members still as the client's own bytes."""

    operation: str
    members: Mapping[str, msgspec.Raw]
    stream: bool = False
    max_output_tokens: int | None = None
    """The limit to send for each answer in place of the client's own; None: leave the request as it is."""
    tool_turns: tuple[str, ...] = ()
    """The first tool call's id of each assistant message that has calls."""
    continuations: Mapping[str, bytes] = {}
    """By such an id: the `Continuation.data` that this provider's protocol gave with that turn, where it is kept."""
    files: tuple[WireFile, ...] = ()
    """What came as a file, or is one of the tenant's own, in the order given."""
    links: frozenset[str] = frozenset()
    """Of vision, audio, video and documents: those that a chat's content names by a public address."""
    priced_by_tokens: bool = False
    """Whether an answer has to come with its count of tokens to be charged exactly, where it can."""


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider wants back unchanged with the results of a turn's tool calls: signed thoughts and the like.

    OpenAI's messages have no place for it, so the gateway keeps it for the tenant. `data` means something to adapters
    of the same kind only.
    """

    call_id: str
    """The id of the turn's first tool call."""
    kind: str
    data: bytes


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What goes over the wire to a provider."""

    url: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"
    dropped_parameters: tuple[str, ...] = ()
    """Members of the client's request that this provider has no use for and was not sent."""


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as a provider lists it; None where it does not say."""

    id: str
    display_name: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    retired: bool = False


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a provider's list of models."""

    models: list[ListedModel]
    next_page: str | None = None
    """What `list_models` takes for the next part; None at the end."""


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
    service_tier: str = ""
    """What the provider says it served the call in; empty where it says nothing."""
    raw: bytes = b"{}"
    problem: str = ""
    """Why the figures cannot be true, in words for an operator; empty where they can. Else they are all 0, and `raw`
    has what the provider said: such a call is charged by the bound that was held for it."""


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
    continuation: Continuation | None = None
    """Comes at the latest with the chunk that has the finish reason."""
    counted: Mapping[str, int] = {}
    """Billable units that are seen in the answer itself: its pictures."""
    media_type: str = ""
    """Set where `data` is sound itself and no event: what kind of sound."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer in OpenAI's shape."""

    body: bytes
    usage: Usage | None
    text_bytes: int
    continuation: Continuation | None = None
    counted: Mapping[str, int] = {}
    """As in `Chunk`."""


class StreamDecoder(Protocol):
    """Turns a provider's bytes into chunks; does no I/O and may be fed any split of the bytes."""

    finished: bool
    """Whether the provider said that the stream is complete."""
    failure: ProviderError | None
    """Set by an error event or garbage; what came before it in the same bytes is still returned."""

    def feed(self, data: bytes) -> list[Chunk]:
        """Take the next bytes; never raises. After a failure nothing more is read."""
        ...


class EmbeddingLimits(msgspec.Struct, frozen=True):
    """How much one embeddings request may have."""

    items: int
    tokens: int
    """Of all its inputs together."""


class Adapter(Protocol):
    """One provider protocol, as pure functions."""

    kind: str
    operations: frozenset[str]
    """Which operations it can build: chat, embeddings, images, image_edits, speech, transcription, translation."""
    capabilities: frozenset[str]
    """What the protocol can carry, of `providers.models.Capability`."""
    links: frozenset[str]
    """Of vision, audio, video and documents: those that it takes by a public address. The rest is fetched for it."""
    fixed_base_url: str | None
    """Set where the provider has only one possible base URL."""
    on_disconnect: OnDisconnect
    """What holds for providers of this kind unless an operator says otherwise. Name the source in the adapter."""
    keeps_continuations: bool
    """Whether its answers carry `Continuation`s and its requests want them back."""
    embeddings_at_once: EmbeddingLimits | None
    """Up to where inputs of several clients go into one request; None: never. Name the source in the adapter."""

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        """Write the provider's request. Raises `UnsupportedError` for what the provider cannot do, and `ProviderError`
        for a request that is wrong in itself."""
        ...

    def decoder(self, request: WireRequest | None = None) -> StreamDecoder:
        """A fresh decoder for the stream that answers this request; None: for a chat's."""
        ...

    def parse_response(self, request: WireRequest, body: bytes) -> Answer:
        """Read a whole 2xx answer to this request of the client's. Raises `ProviderError` for garbage."""
        ...

    def parse_error(self, status: int, *, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Say what an answer that is not 2xx means."""
        ...

    def list_models(self, target: Target, *, page: str | None = None) -> UpstreamRequest:
        """Ask for the provider's models, or for the next page of them."""
        ...

    def parse_models(self, body: bytes) -> ModelPage:
        """Read a 2xx answer to `list_models`. Raises `ProviderError` for garbage."""
        ...

    def check_health(self, target: Target) -> UpstreamRequest:
        """A request that costs nothing; any 2xx answer means that the provider and the credential are fine."""
        ...
