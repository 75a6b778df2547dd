"""Asks the hooks that are bound to a call, each within its time and whatever it does.

Texts that are no JSON document, such as a turn of a voice session, go through `texts_before` and `texts_after`: texts
in, texts out. Piece by piece they go through `gateway.hooks.windows.Windows`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import Counter, Histogram

from gateway.context import Call, HookNote, Trace
from gateway.errors import RequestBlockedError, ResponseBlockedError
from gateway.hooks.base import Action, CallFacts, HookError, Stage, Streams, Verdict
from gateway.hooks.documents import Document
from gateway.hooks.pictures import PictureWindows
from gateway.hooks.selectors import BoundHook
from gateway.hooks.streams import StreamHooks
from gateway.hooks.transcripts import Transcript, TranscriptWindows
from gateway.hooks.verdicts import accepting, check
from gateway.media.speech import speech_facts
from gateway.observation import HOOK_SECONDS, HOOK_VERDICTS
from gateway.routing import requested_name
from gateway.streaming import EventStream, StreamJudge, StreamReply, WholeReply
from providers.transport import Transport
from providers.types import Target, WireFile

if TYPE_CHECKING:
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

REASON_CHARACTERS = 500

SOUND = "speech"
"""Its answer is all sound: there is nothing to read in it."""
TRANSCRIPTS = frozenset({"transcription", "translation"})

STREAM_JUDGES: Mapping[str, Callable[[CallHooks], StreamJudge]] = {
    "chat": StreamHooks,
    "transcription": TranscriptWindows,
    "translation": TranscriptWindows,
    "images": PictureWindows,
    "image_edits": PictureWindows,
}
"""By operation: who reads the events of its streams."""


@dataclass(slots=True, kw_only=True)
class _DocumentSubject:
    """A document for one hook: what it remembers is its own."""

    call: CallFacts
    memory: dict[str, Any]
    transport: Transport
    document: Document
    files: Sequence[WireFile] = ()

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
        await self._judge(Stage.BEFORE, document, files=call.wire.files)
        if not document.changed:
            return call
        changed = {name: _encode(document.body[name]) for name in document.changed if name in document.body}
        kept = {name: value for name, value in members.items() if name in document.body}
        grown = sum(map(len, changed.values())) - sum(len(members.get(name, b"")) for name in document.changed)
        wire = msgspec.structs.replace(call.wire, members={**kept, **changed})
        media = speech_facts(document.body["input"]) if call.operation == SOUND else call.media
        return replace(call, wire=wire, input_bytes=max(0, call.input_bytes + grown), media=media)

    async def after(self, reply: WholeReply | EventStream) -> WholeReply | EventStream:
        """The answer as the client may have it: a stream is judged as it is written. Raises `ResponseBlockedError`."""
        if self.facts.operation == SOUND:
            return reply
        if not isinstance(reply, WholeReply):
            judge = STREAM_JUDGES.get(self.facts.operation)
            if judge is not None and self.watches_streams:
                assert isinstance(reply, StreamReply), "the response cache leaves such a stream alone"
                reply.hooks = judge(self)
            return reply
        body = reply.body
        is_transcript = self.facts.operation in TRANSCRIPTS
        document = (Transcript if is_transcript else Document)(lambda: msgspec.json.decode(body))
        await self._judge(Stage.AFTER, document)
        if not document.changed:
            return reply
        document.forget_spelling()
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

    async def _judge(self, stage: Stage, document: Document, *, files: Sequence[WireFile] = ()) -> None:
        """Have each hook look at what the ones before it made of a document."""
        for one, memory in zip(self._bound, self._memories, strict=True):
            if stage not in one.hook.stages:
                continue
            subject = _DocumentSubject(
                call=self.facts, memory=memory, transport=self.transport, document=document, files=files
            )
            method = one.hook.before_call if stage is Stage.BEFORE else one.hook.after_call
            note = self.note(one, stage)
            await self.ask(one, note, question=partial(method, subject), accept=accepting(document, note, stage=stage))

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
            check(verdict)
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
