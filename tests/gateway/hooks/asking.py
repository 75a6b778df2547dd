"""Hooks asked in this process: no server, no database, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.context import HookNote, Trace
from gateway.hooks.base import CallFacts, Resources
from gateway.hooks.registry import AnyHook, build
from gateway.hooks.runner import CallHooks
from gateway.hooks.selectors import BoundHook
from gateway.hooks.streams import StreamHooks
from providers.types import Chunk, Usage

FACTS = CallFacts(request_id="r-1", operation="chat", model="m", tenant="acme", project="", user="")
USAGE = Usage(units={"input": 1, "output": 1}, input_tokens=1, output_tokens=1)


def bound(hook: AnyHook, *, fail_open: bool = False, timeout_seconds: float = 5.0, name: str = "") -> BoundHook:
    return BoundHook(
        name=name or hook.name,
        kind=hook.name,
        hook=hook,
        project_id=None,
        model="",
        timeout_seconds=timeout_seconds,
        fail_open=fail_open,
    )


def built(hook: str, settings: Mapping[str, Any], /, **options: Any) -> BoundHook:
    return bound(build(hook, settings, resources=Resources()), **options)


class Asked:
    """The hooks of one call, with the trace they leave."""

    def __init__(self, *hooks: BoundHook) -> None:
        self.trace = Trace(request_id=FACTS.request_id)
        self.hooks = CallHooks(hooks, FACTS, trace=self.trace, transport=None)  # type: ignore[arg-type]

    @property
    def notes(self) -> list[HookNote]:
        return self.trace.hooks

    async def stream(self, chunks: Sequence[Chunk], *, together: bool = False) -> list[Chunk]:
        """What a client gets of these chunks, handed over one by one or all at once."""
        stream = StreamHooks(self.hooks)
        passed: list[Chunk] = []
        for batch in [chunks] if together else [[chunk] for chunk in chunks]:
            passed += await stream.pass_on(batch)
        return passed + await stream.finish()


def chunk(delta: dict[str, Any], *, finish: str | None = None, choice: int = 0, usage: Usage | None = None) -> Chunk:
    document: dict[str, Any] = {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": choice, "delta": delta, "finish_reason": finish}],
    }
    if usage is not None:
        document["usage"] = {"prompt_tokens": usage.input_tokens}
    return Chunk(data=msgspec.json.encode(document), usage=usage)


def usage_chunk() -> Chunk:
    data = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": {}}
    return Chunk(data=msgspec.json.encode(data), usage=USAGE, usage_only=True)


def said(chunks: Sequence[Chunk], *, choice: int = 0) -> str:
    """The content that a client puts together."""
    return "".join(delta.get("content") or "" for delta in deltas(chunks, choice=choice))


def deltas(chunks: Sequence[Chunk], *, choice: int = 0) -> list[dict[str, Any]]:
    choices = [one for each in chunks for one in msgspec.json.decode(each.data)["choices"] if one["index"] == choice]
    return [one["delta"] for one in choices]


def arguments(chunks: Sequence[Chunk], *, call: int = 0) -> str:
    """The arguments of one tool call."""
    calls = [one for delta in deltas(chunks) for one in delta.get("tool_calls", ()) if one["index"] == call]
    return "".join(one.get("function", {}).get("arguments", "") for one in calls)
