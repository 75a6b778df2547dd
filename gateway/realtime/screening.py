"""The hooks of a session: on what its client writes, on what is understood of its voice, and on what is answered.

Texts of an answer are judged in windows, as those of a stream are. Sound goes on as it comes: nobody can tell which of
it a word of the transcript is, and a voice that waits for its transcript is none. Once a hook blocks, the response is
cancelled, and what of its sound has not been sent stays here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import orjson

from gateway.context import Call, HookNote, Trace
from gateway.errors import GatewayError, InternalError, RequestBlockedError, ResponseBlockedError
from gateway.hooks.documents import Place, places_of
from gateway.hooks.runner import CallHooks, hooks_of
from gateway.hooks.streams import StreamHooks
from providers.realtime.types import Event, ServerEvent
from providers.types import Chunk, Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway

WRITTEN = frozenset({"session.update", "conversation.item.create", "response.create"})
"""Clients' events that have texts."""

NO_TEXT = frozenset(
    {
        "audio",
        "event_id",
        "item_id",
        "previous_item_id",
        "name",
        "language",
        "eagerness",
        "status",
        "truncation",
        "conversation",
    }
)
"""Members of those that are no texts, besides those of any document."""

NO_TEXTS = frozenset({"output_modalities", "include", "logit_bias"})

ANSWERED = {
    "response.output_text": "text",
    "response.output_audio_transcript": "transcript",
    "response.function_call_arguments": "arguments",
    "response.mcp_call_arguments": "arguments",
}
"""Texts that come piece by piece, and the member of their last event that has the whole."""

TEXTS = ("text", "transcript", "arguments")
UNDERSTOOD = "conversation.item.input_audio_transcription."
WORST = ("allow", "modify", "failed", "block")


@dataclass(slots=True)
class _Text:
    """One text of an answer."""

    number: int
    """Its place among the texts of its response."""
    place: Event
    """The members that say where it belongs."""
    kind: str
    said: str = ""
    """What the client may have of it so far."""
    has_begun: bool = False
    """Whether any piece of it has come."""
    is_over: bool = False


@dataclass(slots=True)
class _Answer:
    """A response that is under way."""

    stream: StreamHooks
    notes: list[HookNote]
    texts: dict[tuple[str, int], _Text] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)
    is_blocked: bool = False


@dataclass(slots=True)
class Heard:
    """What a client may have of a provider's event, and why it gets no more where something was blocked."""

    events: list[ServerEvent]
    refusal: GatewayError | None = None
    response_id: str = ""
    """What is to be cancelled; empty for whatever is under way."""
    item_id: str = ""
    """What is to be taken out of the conversation, since it may not be read."""


class Screen:
    """Asks the hooks that are bound to one session."""

    def __init__(self, gateway: Gateway, call: Call, *, trace: Trace, target: Target) -> None:
        self._gateway = gateway
        self._trace = trace
        self._target = target
        self._answers: dict[str, _Answer] = {}
        self._bound = call.caller.hooks
        self._hooks = self._hooks_of(call)

    @property
    def is_idle(self) -> bool:
        """Whether no hook is bound, and none is still looking at a response."""
        return self._hooks is None and not self._answers

    def follow(self, call: Call) -> None:
        """Go by the hooks that are bound now. What they remember stays unless one of them has changed."""
        if call.caller.hooks != self._bound:
            self._bound = call.caller.hooks
            self._hooks = self._hooks_of(call)

    async def asked(self, event: Event) -> bool:
        """Have what a client writes judged, and changed in place; whether it was. Raises `RequestBlockedError`."""
        if self._hooks is None or event["type"] not in WRITTEN:
            return False
        places = [place for place in places_of(event) if _is_text(place)]
        if not places:
            return False
        texts = [place.text.value for place in places]
        judged = await self._hooks.texts_before(texts)
        self._tidy()
        if judged == texts:
            return False
        if len(judged) != len(texts):
            raise InternalError
        for place, text in zip(places, judged, strict=True):
            place.holder[place.key] = text
        return True

    async def heard(self, event: ServerEvent) -> Heard:
        """What the client may have of a provider's event, in its place: nothing, itself, or something before it."""
        if event.type.startswith(UNDERSTOOD):
            return await self._understood(event)
        answer = self._answer_of(event.event)
        if answer is None or event.type == "response.created":
            return await self._apart(event)
        try:
            told = [] if answer.is_blocked else await self._judged(event, answer)
        except ResponseBlockedError as refusal:
            answer.is_blocked = True
            heard = Heard([], refusal, response_id=_response_id(event.event))
        else:
            heard = Heard(told)
        if event.type == "response.done":
            if answer.is_blocked:
                _cut(event)
                heard.events = [event]
            self._answers.pop(_response_id(event.event), None)
            self._tidy()
        return heard

    def _hooks_of(self, call: Call) -> CallHooks | None:
        return hooks_of(self._gateway, call, trace=self._trace, targets=[self._target])

    def _answer_of(self, event: Event) -> _Answer | None:
        """The response that an event belongs to, where somebody looks at answers."""
        response_id = _response_id(event)
        if not response_id:
            item = _object(event.get("item")).get("id")
            return next((answer for answer in self._answers.values() if item in answer.items), None)
        answer = self._answers.get(response_id)
        if answer is None and self._hooks is not None and self._hooks.watches_streams:
            known = len(self._trace.hooks)
            stream = StreamHooks(self._hooks)
            answer = self._answers[response_id] = _Answer(stream, self._trace.hooks[known:])
        return answer

    async def _judged(self, event: ServerEvent, answer: _Answer) -> list[ServerEvent]:
        """An event of a response. Raises `ResponseBlockedError`."""
        said = event.event
        name, _, stage = event.type.rpartition(".")
        if name in ANSWERED:
            text = self._text(answer, said, kind=name)
            if stage == "delta":
                text.has_begun = True
                piece = await _feed(answer, text, piece=str(said.get("delta") or ""))
                return [_changed(event, {"delta": piece})] if piece else []
            before = await self._rest(answer, text, whole=str(said.get(ANSWERED[name]) or ""))
            return [*before, _changed(event, {ANSWERED[name]: text.said})]
        item = _object(said.get("item"))
        if isinstance(item.get("id"), str):
            answer.items.add(item["id"])
        if event.type == "response.done":
            before = [told for text in list(answer.texts.values()) for told in await self._rest(answer, text)]
            for one in _list(_object(said.get("response")).get("output")):
                before += await self._put_item(answer, one)
        elif event.type == "response.content_part.done":
            before = await self._put(answer, _object(said.get("part")), place=(str(said.get("item_id")), _index(said)))
        elif stage == "done" and item:
            before = await self._put_item(answer, item)
        else:
            return [event]
        return [*before, _changed(event, {})]

    def _text(self, answer: _Answer, said: Event, *, kind: str) -> _Text:
        key = (str(said.get("item_id")), _index(said))
        if (text := answer.texts.get(key)) is None:
            names = ("response_id", "item_id", "output_index", "content_index", "call_id")
            place = {name: said[name] for name in names if name in said}
            text = answer.texts[key] = _Text(len(answer.texts), place, kind)
            answer.items.add(key[0])
        return text

    async def _rest(self, answer: _Answer, text: _Text, *, whole: str | None = None) -> list[ServerEvent]:
        """End a text; the event with what was held of it. `whole` is for one of which no piece has come."""
        if text.is_over:
            return []
        unseen = "" if text.has_begun or whole is None else whole
        piece = await _feed(answer, text, piece=unseen, is_last=True)
        text.is_over = True
        if not piece or not text.has_begun:
            return []
        event_id = f"event_{uuid4().hex}"
        told = {"type": f"{text.kind}.delta", "event_id": event_id, **text.place, "delta": piece}
        return [ServerEvent(text=orjson.dumps(told).decode(), event=told)]

    async def _put_item(self, answer: _Answer, item: Event) -> list[ServerEvent]:
        item_id = str(item.get("id"))
        before = await self._put(answer, item, place=(item_id, 0))
        for index, part in enumerate(_list(item.get("content"))):
            before += await self._put(answer, part, place=(item_id, index))
        return before

    async def _put(self, answer: _Answer, holder: Event, *, place: tuple[str, int]) -> list[ServerEvent]:
        """Put what was judged in the place of what was said; what nobody has seen yet is judged now."""
        before: list[ServerEvent] = []
        for member in TEXTS:
            if isinstance(whole := holder.get(member), str) and whole:
                text = answer.texts.get(place)
                if text is None:
                    text = answer.texts[place] = _Text(len(answer.texts), {}, member)
                before += await self._rest(answer, text, whole=whole)
                holder[member] = text.said
        return before

    async def _understood(self, event: ServerEvent) -> Heard:
        """What a transcriber made of the client's voice: told when it is whole."""
        if self._hooks is None:
            return Heard([event])
        if not event.type.endswith(".completed"):
            return Heard([event] if event.type.endswith(".failed") else [])
        try:
            (transcript,) = await self._hooks.texts_before([str(event.event.get("transcript") or "")])
        except RequestBlockedError as refusal:
            for answer in self._answers.values():
                answer.is_blocked = True
            told = _changed(event, {"transcript": ""})
            return Heard([told], refusal, item_id=str(event.event.get("item_id") or ""))
        finally:
            self._tidy()
        return Heard([_changed(event, {"transcript": transcript})])

    async def _apart(self, event: ServerEvent) -> Heard:
        """An event of no response: an item that is looked up later is judged as it is."""
        item = _object(event.event.get("item"))
        if self._hooks is None or item.get("role") != "assistant" or not self._hooks.watches_streams:
            return Heard([event])
        parts = [part for part in _list(item.get("content")) if any(isinstance(part.get(name), str) for name in TEXTS)]
        slots = [(part, name) for part in parts for name in TEXTS if isinstance(part.get(name), str)]
        try:
            judged = await self._hooks.texts_after([part[name] for part, name in slots])
        except ResponseBlockedError as refusal:
            item["content"] = []
            return Heard([_changed(event, {})], refusal, response_id="none")
        for (part, name), text in zip(slots, judged, strict=True):
            part[name] = text
        self._tidy()
        return Heard([_changed(event, {})])

    def _tidy(self) -> None:
        """Of what one hook said at one stage the worst is kept: a session may ask it a thousand times."""
        held = {id(note) for answer in self._answers.values() for note in answer.notes}
        kept: dict[tuple[str, str, str], HookNote] = {}
        open_: list[HookNote] = []
        for note in self._trace.hooks:
            key = (note.binding, note.hook, note.stage)
            if id(note) in held:
                open_.append(note)
            elif (first := kept.get(key)) is None:
                kept[key] = note
            else:
                first.verdict = max(first.verdict, note.verdict, key=WORST.index)
                first.problem = note.problem or first.problem
                first.elapsed_ms += note.elapsed_ms
                first.add_fields(note.fields)
        self._trace.hooks[:] = [*kept.values(), *open_]


async def _feed(answer: _Answer, text: _Text, *, piece: str, is_last: bool = False) -> str:
    """Take what comes next of a text; what the client may have of it now. Raises `ResponseBlockedError`."""
    delta: Event = {"content": piece}
    if text.kind.endswith("arguments"):
        delta = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
    choice = {"index": text.number, "delta": delta, "finish_reason": "stop" if is_last else None}
    released = ""
    for chunk in await answer.stream.pass_on([Chunk(data=msgspec.json.encode({"choices": [choice]}))]):
        for passed in msgspec.json.decode(chunk.data)["choices"]:
            told = passed["delta"]
            calls = told.get("tool_calls")
            released += (calls[0]["function"].get("arguments") if calls else told.get("content")) or ""
    text.said += released
    return released


def _cut(event: ServerEvent) -> None:
    """The end of a response that was blocked, in OpenAI's words."""
    response = _object(event.event.get("response"))
    response["output"] = []
    response["status"] = "incomplete"
    response["status_details"] = {"type": "incomplete", "reason": "content_filter"}
    event.text = orjson.dumps(event.event).decode()


def _changed(event: ServerEvent, members: Event) -> ServerEvent:
    event.event.update(members)
    event.text = orjson.dumps(event.event).decode()
    return event


def _is_text(place: Place) -> bool:
    """Whether it is said to the model. The gateway decides on the others, and a hook must not change them."""
    if NO_TEXTS.intersection(step for step in place.way if isinstance(step, str)):
        return False
    is_media = place.key == "image_url" and place.text.value.startswith("data:")
    return place.key not in NO_TEXT and not is_media


def _response_id(event: Event) -> str:
    found = event.get("response_id") or _object(event.get("response")).get("id")
    return found if isinstance(found, str) else ""


def _index(said: Event) -> int:
    found = said.get("content_index")
    return found if isinstance(found, int) else 0


def _object(found: Any) -> Event:
    return found if isinstance(found, dict) else {}


def _list(found: Any) -> list[Event]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
