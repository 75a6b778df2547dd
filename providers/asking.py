"""Asking providers what costs nothing: whether they answer, and which models they have. No row is read or written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from providers.errors import Failure, ProviderError
from providers.registry import adapter_for
from providers.transport import Deadlines, Transport, UpstreamResponse, read_all, read_error
from providers.types import ListedModel, Target, UpstreamRequest

DEADLINES = Deadlines(connect=3.0, idle=10.0, total=15.0)
AT_ONCE = 20
LIST_LIMIT_BYTES = 16 * 1024 * 1024
MOST_PAGES = 50
MOST_MODELS = 10_000

SAYS_NOTHING = frozenset({404, 405, 429, 501})
"""It answers, but not to this: servers without a list of models, and those that ask for patience."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What came of asking a provider once."""

    is_fine: bool | None
    """None: it answered, and neither a yes nor a no."""
    latency_ms: int | None
    """Until the head of the answer; None when there was none."""
    error: str = ""


def probe_all(targets: Sequence[Target]) -> list[Probe]:
    """Ask each target's provider whether it is well, so many at the same time; as many answers, in the same order."""
    return asyncio.run(_for_each(targets, _probe))


def list_all(targets: Sequence[Target]) -> list[list[ListedModel] | ProviderError]:
    """Each target's provider's models, every page of them, or why there are none to be had."""
    return asyncio.run(_for_each(targets, _list_or_error))


async def _for_each(targets: Sequence[Target], ask: Callable[[Transport, Target], Awaitable[Answer]]) -> list[Answer]:
    transport = Transport()
    places = asyncio.Semaphore(AT_ONCE)

    async def in_turn(target: Target) -> Answer:
        async with places:
            return await ask(transport, target)

    try:
        return list(await asyncio.gather(*(in_turn(target) for target in targets)))
    finally:
        await transport.close()


async def _probe(transport: Transport, target: Target) -> Probe:
    started = time.monotonic()
    latency_ms = None
    try:
        response = await _send(transport, target, request=adapter_for(target.kind).check_health(target))
        latency_ms = round((time.monotonic() - started) * 1000)
        if _is_success(response):
            response.close()
        else:
            await _fail(response, target)
    except ProviderError as error:
        is_fine = None if error.status in SAYS_NOTHING else False
        return Probe(is_fine=is_fine, latency_ms=latency_ms, error=_without_secret(error, target))
    return Probe(is_fine=True, latency_ms=latency_ms)


async def _list_or_error(transport: Transport, target: Target) -> list[ListedModel] | ProviderError:
    try:
        return await _list(transport, target)
    except ProviderError as error:
        return ProviderError(error.failure, _without_secret(error, target), status=error.status)


async def _list(transport: Transport, target: Target) -> list[ListedModel]:
    adapter = adapter_for(target.kind)
    models: list[ListedModel] = []
    page: str | None = None
    for _ in range(MOST_PAGES):
        response = await _send(transport, target, request=adapter.list_models(target, page=page))
        if not _is_success(response):
            await _fail(response, target)
        part = adapter.parse_models(await _read(response))
        models += part.models
        page = part.next_page
        if page is None:
            break
    if page is not None or len(models) > MOST_MODELS:
        raise ProviderError(Failure.BROKEN, f"The list has more than {MOST_PAGES} pages or {MOST_MODELS} models.")
    if not models:
        # Otherwise every model of theirs would count as gone.
        raise ProviderError(Failure.BROKEN, "The list of models is empty.")
    return models


async def _send(transport: Transport, target: Target, *, request: UpstreamRequest) -> UpstreamResponse:
    return await transport.send(request, deadlines=DEADLINES, allow_private_network=target.allow_private_network)


def _is_success(response: UpstreamResponse) -> bool:
    return 200 <= response.status < 300


async def _read(response: UpstreamResponse) -> bytes:
    try:
        return await read_all(response, limit_bytes=LIST_LIMIT_BYTES)
    finally:
        response.close()


async def _fail(response: UpstreamResponse, target: Target) -> None:
    """Raise what an answer that is not 2xx means."""
    try:
        body = await read_error(response)
    finally:
        response.close()
    raise adapter_for(target.kind).parse_error(response.status, headers=response.headers, body=body)


def _without_secret(error: ProviderError, target: Target) -> str:
    """What went wrong, for operators: providers repeat what they were sent, and their text may hold what no row can."""
    text = error.message if error.status is None else f"HTTP {error.status}: {error.message}"
    if target.secret:
        text = text.replace(target.secret, "(the credential)")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
