"""Asks the hooks that are bound to a call, each within its time and whatever it does.

Texts that are no JSON document (an image's prompt, a transcript, a turn of a voice session) go through `texts_before`
and `texts_after`: texts in, texts out.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import Counter, Histogram

from gateway.context import Call, HookNote, Trace
from gateway.errors import RequestBlockedError, ResponseBlockedError
from gateway.hooks.base import Action, CallFacts, Edit, HookError, Stage, Streams, Verdict
from gateway.hooks.documents import FREE_MEMBERS, Document, RubbishError
from gateway.hooks.selectors import BoundHook
from gateway.hooks.streams import StreamHooks
from gateway.observation import HOOK_SECONDS, HOOK_VERDICTS
from gateway.routing import requested_name
from gateway.streaming import EventStream, StreamReply, WholeReply
from providers.transport import Transport
from providers.types import Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

REASON_CHARACTERS = 500

JUDGED_ANSWERS = frozenset({"chat", "embeddings"})
"""The answers of other operations are sound and pictures."""


@dataclass(slots=True, kw_only=True)
class _DocumentSubject:
    """A document for one hook: what it remembers is its own."""

    call: CallFacts
    memory: dict[str, Any]
    transport: Transport
    document: Document

    @property
    def texts(self) -> Sequence[Any]:
        return self.document.texts

    @property
    def body(self) -> Any:
        return self.document.body


def hooks_of(gateway: Gateway, call: Call, *, trace: Trace, targets: Iterable[Target]) -> CallHooks | None:
    """The hooks that are bound to a call: those for a model also where it is one of several that may answer. None for
    none."""
    if not call.caller.hooks:
        return None
    models = {requested_name(gateway.directory.catalogue, call), *(target.model_name for target in targets)}
    bound = [one for one in call.caller.hooks if not one.model or one.model in models]
    return CallHooks(bound, facts_of(call), trace=trace, transport=gateway.transport) if bound else None


def facts_of(call: Call) -> CallFacts:
    """What hooks are told about a call."""
    principal = call.caller.principal
    return CallFacts(
        request_id=call.request_id,
        operation=call.operation,
        model=call.requested_model,
        tenant=principal.tenant_name,
        project=principal.project_name,
        user=call.attribution.user,
    )


class CallHooks:
    """The hooks of one call, from its request to its answer."""

    def __init__(self, bound: Sequence[BoundHook], facts: CallFacts, *, trace: Trace, transport: Transport) -> None:
        self.facts = facts
        self.transport = transport
        self._bound = bound
        self._trace = trace
        self._memories: list[dict[str, Any]] = [{} for _ in bound]

    async def before(self, call: Call) -> Call:
        """The call as it may be made. Raises `RequestBlockedError`."""
        members = call.wire.members
        document = Document(lambda: {name: msgspec.json.decode(value) for name, value in members.items()})
        await self._judge(Stage.BEFORE, document)
        if not document.changed:
            return call
        changed = {name: _encode(document.body[name]) for name in document.changed if name in document.body}
        kept = {name: value for name, value in members.items() if name in document.body}
        grown = sum(map(len, changed.values())) - sum(len(members.get(name, b"")) for name in document.changed)
        wire = msgspec.structs.replace(call.wire, members={**kept, **changed})
        return replace(call, wire=wire, input_bytes=max(0, call.input_bytes + grown))

    async def after(self, reply: WholeReply | EventStream) -> WholeReply | EventStream:
        """The answer as the client may have it: a stream is judged as it is written. Raises `ResponseBlockedError`."""
        if self.facts.operation not in JUDGED_ANSWERS:
            return reply
        if not isinstance(reply, WholeReply):
            if self.watches_streams:
                assert isinstance(reply, StreamReply), "the response cache leaves such a stream alone"
                reply.hooks = StreamHooks(self)
            return reply
        body = reply.body
        document = Document(lambda: msgspec.json.decode(body))
        await self._judge(Stage.AFTER, document)
        if not document.changed:
            return reply
        for choice in document.body.get("choices", ()):
            if isinstance(choice, dict):
                choice.pop("logprobs", None)  # they spell the answer as it was
        return WholeReply(msgspec.json.encode(document.body))

    async def texts_before(self, texts: Sequence[str]) -> list[str]:
        """The same for the texts of a request. Raises `RequestBlockedError`."""
        return await self._judge_texts(Stage.BEFORE, texts)

    async def texts_after(self, texts: Sequence[str]) -> list[str]:
        """The same for the texts of an answer. Raises `ResponseBlockedError`."""
        return await self._judge_texts(Stage.AFTER, texts)

    @property
    def watches_streams(self) -> bool:
        """Whether any of them looks at answers that come as streams."""
        return any(map(_watches_streams, self._bound))

    def watching(self) -> list[tuple[BoundHook, dict[str, Any]]]:
        """Those that look at streams, each with its memory."""
        pairs = zip(self._bound, self._memories, strict=True)
        return [(one, memory) for one, memory in pairs if _watches_streams(one)]

    async def _judge_texts(self, stage: Stage, texts: Sequence[str]) -> list[str]:
        document = Document(lambda: {"texts": list(texts)})
        await self._judge(stage, document)
        return list(document.body["texts"]) if document.changed else list(texts)

    async def _judge(self, stage: Stage, document: Document) -> None:
        """Have each hook look at what the ones before it made of a document."""
        for one, memory in zip(self._bound, self._memories, strict=True):
            if stage not in one.hook.stages:
                continue
            subject = _DocumentSubject(call=self.facts, memory=memory, transport=self.transport, document=document)
            method = one.hook.before_call if stage is Stage.BEFORE else one.hook.after_call
            note = self.note(one, stage)
            await self.ask(one, note, question=partial(method, subject), accept=_accepting(document, note, stage=stage))

    def note(self, one: BoundHook, stage: Stage) -> HookNote:
        """A line of the trace about a hook that is about to be asked."""
        note = HookNote(binding=one.name, hook=one.kind, stage=stage)
        self._trace.hooks.append(note)
        return note

    async def ask(
        self,
        one: BoundHook,
        note: HookNote,
        *,
        question: Callable[[], Coroutine[Any, Any, Verdict]],
        accept: Callable[[Verdict], None],
    ) -> bool:
        """Ask one hook and act on its verdict; False where it failed and the call goes on without it.

        Raises `RequestBlockedError` or `ResponseBlockedError`. Whatever a hook does ends here, recorded.
        """
        started = time.perf_counter()
        problem = ""
        verdict: Verdict | None = None
        try:
            if one.hook.waits:
                async with asyncio.timeout(one.timeout_seconds):
                    verdict = await question()
            else:
                verdict = await question()
            _check(verdict)
            if verdict.action is Action.MODIFY:
                accept(verdict)
        except TimeoutError:
            problem = f"took longer than {one.timeout_seconds * 1000:.0f} ms"
        except HookError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 -- the one door for hooks: any fault of theirs is recorded, and is what the binding says
            problem = _place_of(error)
        seconds = time.perf_counter() - started
        told = "failed" if problem or verdict is None else verdict.action.value
        _counter(one.kind, note.stage, verdict=told).inc()
        _stopwatch(one.kind, note.stage).observe(seconds)
        note.elapsed_ms += int(seconds * 1000)
        if problem or verdict is None:
            self._failed(one, note, problem=problem)
            return False
        if note.verdict != "failed" and verdict.action is not Action.ALLOW:
            note.verdict = verdict.action
        if verdict.action is Action.BLOCK:
            raise _refusal(one, note.stage, reason=verdict.reason[:REASON_CHARACTERS])
        return True

    def _failed(self, one: BoundHook, note: HookNote, *, problem: str) -> None:
        note.verdict, note.problem = "failed", problem
        logger.warning(
            "hook.failed",
            extra={
                "request_id": self.facts.request_id,
                "tenant": self.facts.tenant,
                "binding": one.name,
                "hook": one.kind,
                "stage": note.stage,
                "reason": problem,
                "blocked": not one.fail_open,
            },
        )
        if not one.fail_open:
            raise _refusal(one, note.stage, reason="it could not be judged", failed=True)


@cache
def _counter(kind: str, stage: str, *, verdict: str) -> Counter:
    return HOOK_VERDICTS.labels(kind, stage, verdict)


@cache
def _stopwatch(kind: str, stage: str) -> Histogram:
    return HOOK_SECONDS.labels(kind, stage)


def _watches_streams(one: BoundHook) -> bool:
    return one.hook.streams is not Streams.PASS and not one.hook.stages.isdisjoint({Stage.CHUNK, Stage.AFTER})


def _encode(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _check(verdict: object) -> None:
    """Whether it is a verdict at all: hooks are written by anybody. Raises `RubbishError`."""
    if not isinstance(verdict, Verdict) or not isinstance(verdict.action, Action):
        raise RubbishError("It is no verdict.")
    if not _is_text(verdict.reason) or not isinstance(verdict.edits, tuple):
        raise RubbishError("Its reason is no text, or its edits are no tuple.")
    if verdict.action is Action.MODIFY and (verdict.body is None) == (not verdict.edits):
        raise RubbishError("A change is either edits or a body.")
    for edit in verdict.edits:
        if not isinstance(edit, Edit) or not _is_text(edit.replacement):
            raise RubbishError("An edit is not what an edit is.")


def _is_text(value: object) -> bool:
    """A lone half of a character beyond U+FFFF cannot be sent."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _accepting(document: Document, note: HookNote, *, stage: Stage) -> Callable[[Verdict], None]:
    def accept(verdict: Verdict) -> None:
        if verdict.body is None:
            note.add_fields(document.edit(verdict.edits))
            return
        if not isinstance(verdict.body, dict):
            raise RubbishError("Its body is no JSON object.")
        body = _plain(verdict.body)
        if stage is Stage.BEFORE:
            _check_members(document.body, body)
        note.add_fields(document.replace(body))

    return accept


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """The body as JSON has it, apart from what the hook holds. Raises `RubbishError`."""
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RubbishError("Its body cannot be written as JSON.") from error
    return plain


def _check_members(before: dict[str, Any], body: dict[str, Any]) -> None:
    for name in {*before, *body}:
        if name not in FREE_MEMBERS and (name not in before or name not in body or before[name] != body[name]):
            raise RubbishError(f"It changes {name[:50]!r}, on which has been decided.")
    messages = body.get("messages")
    if "messages" in before and not (
        isinstance(messages, list)
        and messages
        and all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages)
    ):
        raise RubbishError("It leaves no messages, or one without a role.")
    if "input" in before and not body.get("input"):
        raise RubbishError("It leaves no input.")


def _place_of(error: Exception) -> str:
    """What went wrong and where, without the exception's own words: those may quote the call."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"raised {type(error).__name__}{where}"


def _refusal(
    one: BoundHook, stage: str, *, reason: str, failed: bool = False
) -> RequestBlockedError | ResponseBlockedError:
    kind = RequestBlockedError if stage == Stage.BEFORE else ResponseBlockedError
    return kind(one.name, reason, hook_failed=failed)
