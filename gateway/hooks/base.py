"""What a hook is: a class with settings, and three questions that it may answer with a verdict.

A hook is built once for a binding and asked by many calls at the same time: it keeps nothing between them. What it must
remember from a request to its answer goes into `memory`, which belongs to one call and one binding. It must not block
the loop: what waits is awaited, and what searches long texts does so in pieces (`gateway.hooks.patterns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from providers.transport import Transport
from providers.types import WireFile
from tenants.models import WebhookEndpoint


class Stage(StrEnum):
    """When a hook is asked, by the name of its method."""

    BEFORE = "before_call"
    CHUNK = "on_chunk"
    AFTER = "after_call"


class Streams(StrEnum):
    """What a hook does about answers that come as streams, of which it never sees the whole document."""

    WINDOW = "window"
    """It is asked for each window; the client is behind by the hook's `overlap_characters`."""
    HOLD = "hold"
    """It is asked once, for each whole text: the client gets nothing of it before."""
    PASS = "pass"  # noqa: S105 -- no password
    """They pass without it."""


class Action(StrEnum):
    """What a hook says."""

    ALLOW = "allow"
    BLOCK = "block"
    MODIFY = "modify"


class Edit(msgspec.Struct, frozen=True):
    """Characters `start` to before `end` of a text become `replacement`. `text` is the text's place in the list that
    the hook was given, 0 in a window."""

    text: int
    start: int
    end: int
    replacement: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a hook says about a request or an answer.

    `reason` is told to the client, so it quotes nothing. A change is either `edits` or the whole `body` as it is to be.
    """

    action: Action
    reason: str = ""
    edits: tuple[Edit, ...] = ()
    body: Any = None


ALLOWED = Verdict(action=Action.ALLOW)


def blocked(reason: str) -> Verdict:
    """It goes no further."""
    return Verdict(action=Action.BLOCK, reason=reason)


def edited(edits: Iterable[Edit]) -> Verdict:
    """These characters change; no edits, no change."""
    changes = tuple(sorted(edits, key=lambda edit: (edit.text, edit.start)))
    return Verdict(action=Action.MODIFY, edits=changes) if changes else ALLOWED


def replaced(body: Any) -> Verdict:
    """It becomes this JSON document."""
    return Verdict(action=Action.MODIFY, body=body)


class Text(msgspec.Struct, frozen=True):
    """One text of a request or an answer. `path` says where, such as `messages[0].content`; `is_json` marks a text that
    is itself JSON, such as the arguments of a tool call: what is put into it must be escaped as in a JSON string."""

    path: str
    value: str
    is_json: bool = False


class CallFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Which call it is about."""

    request_id: str
    operation: str
    model: str
    """As the client asked for it."""
    tenant: str
    project: str
    user: str


class Subject(Protocol):
    """A request or a whole answer. Both are read when first asked for: what a hook does not look at costs nothing."""

    call: CallFacts
    memory: dict[str, Any]
    transport: Transport
    """For a hook that asks somebody: it dials public addresses only, unless told otherwise."""

    files: Sequence[WireFile]
    """What a request brings as files of its own, beside the document: pictures to be edited, sound to be heard."""

    @property
    def texts(self) -> Sequence[Text]:
        """Every text in it, in order; neither names, ids nor media."""
        ...

    @property
    def body(self) -> Any:
        """The JSON document. Not to be changed in place: a verdict has what it is to be."""
        ...


@dataclass(slots=True, kw_only=True)
class Window:
    """A stretch of one text of an answer that is still coming.

    What is before `begin` has been judged and sent; it is there so that a hook sees what the rest follows. What is
    closer to the end than the hook's overlap comes again, with what follows it, before it is sent.
    """

    call: CallFacts
    memory: dict[str, Any]
    transport: Transport
    text: str
    begin: int
    settled: int
    """What begins before it has all that follows it here. What begins later is found again, with more: do not block for
    it yet, and an edit of it is not made yet."""
    is_last: bool
    """Whether the text ends here."""
    path: str
    is_json: bool = False


@dataclass(slots=True, kw_only=True)
class TextSubject:
    """A window's text as a hook sees an answer that is there at once."""

    call: CallFacts
    memory: dict[str, Any]
    transport: Transport
    texts: Sequence[Text]
    body: Any = None
    files: Sequence[WireFile] = ()


class HookError(Exception):
    """Why a hook has no verdict, in words for an operator. They quote nothing of the call: they are logged and kept."""


class SettingsError(HookError):
    """Settings that a hook cannot work with. `field` names the one that is to blame, empty for none of them."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Resources:
    """What a binding has besides its settings."""

    webhooks: Sequence[WebhookEndpoint] = field(default=())
    """The tenant's own, with their secrets sealed."""


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to set."""


SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)


class Hook(Generic[SettingsT]):
    """The base of all hooks: it allows everything. Give a subclass its names, its settings and the methods it needs."""

    name: ClassVar[str]
    """In bindings, metrics and files; never changes."""
    description: ClassVar[str]
    """For operators: what it does, in a sentence."""
    settings_type: ClassVar[type[msgspec.Struct]] = NoSettings
    """What can be set: each field with a description for the form that is made of it."""

    stages: frozenset[Stage] = frozenset(Stage)
    """When it wants to be asked. An instance may want less than its class, as its settings say."""
    streams: Streams = Streams.HOLD
    waits: ClassVar[bool] = True
    """Whether it ever awaits something: one that does not needs no timer, which costs more than a short look."""
    overlap_characters: int = 0
    """For `Streams.WINDOW`: at least as long as the longest thing it looks for."""

    def __init__(self, settings: SettingsT, resources: Resources) -> None:
        """Raises `SettingsError` for settings that no call could be judged with."""
        self.settings = settings

    async def before_call(self, request: Subject) -> Verdict:
        """Judge a request before anything is asked or paid."""
        return ALLOWED

    async def on_chunk(self, window: Window) -> Verdict:
        """Judge a stretch of an answer that comes as a stream; edits begin at `window.begin` or later."""
        text = Text(window.path, window.text, window.is_json)
        whole = TextSubject(call=window.call, memory=window.memory, transport=window.transport, texts=[text])
        return await self.after_call(whole)

    async def after_call(self, answer: Subject) -> Verdict:
        """Judge a whole answer, which has been paid."""
        return ALLOWED
