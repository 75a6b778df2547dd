"""Providers that take a request up and work on it by themselves: what the gateway and their adapters say to each other.

Like `providers.types.Adapter`, an `AsynchronousAdapter` is pure functions without Django and without I/O. A module of
`providers.adapters` that has some names them in `ASYNCHRONOUS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from providers.types import Target, UpstreamRequest, WireRequest


class UpstreamState(StrEnum):
    """Where a provider's own job is, in the gateway's words."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class UpstreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of its job."""

    state: UpstreamState
    unknown_state: str = ""
    """The provider's own word where no table has it; such a job is taken to go on."""
    progress: int | None = None
    """Percent."""
    seconds: int | None = None
    """How long what it made is, as far as it says so: what it is charged by."""
    content_url: str = ""
    """Where what it made is to be had; empty: ask `content`."""
    code: str = ""
    message: str = ""
    """Why it failed."""
    raw: bytes = b"{}"


class AsynchronousAdapter(Protocol):
    """One provider protocol with jobs of its own."""

    kind: str
    operations: frozenset[str]
    """Which operations it can submit: `videos`."""
    capabilities: frozenset[str]

    def submit(self, request: WireRequest, target: Target) -> UpstreamRequest:
        """Write the request that begins a job. Raises `ProviderError` for what the provider cannot do."""
        ...

    def read_submission(self, body: bytes) -> str:
        """The provider's id for the job that a 2xx answer has begun. Raises `ProviderError` for garbage."""
        ...

    def poll(self, upstream_id: str, target: Target) -> UpstreamRequest:
        """Ask how far a job is."""
        ...

    def read_status(self, body: bytes) -> UpstreamStatus:
        """Read a 2xx answer to `poll`. Raises `ProviderError` for garbage."""
        ...

    def cancel(self, upstream_id: str, target: Target) -> UpstreamRequest | None:
        """Ask to end a job; None where the protocol has no way to."""
        ...

    def content(self, upstream_id: str, status: UpstreamStatus, *, target: Target) -> UpstreamRequest:
        """Ask for what a completed job has made."""
        ...


def state_in(table: Mapping[str, UpstreamState], word: str) -> tuple[UpstreamState, str]:
    """A provider's word by its adapter's table; one that is not there means that the job goes on, and is told."""
    found = table.get(word)
    return (found, "") if found is not None else (UpstreamState.IN_PROGRESS, word[:64])
