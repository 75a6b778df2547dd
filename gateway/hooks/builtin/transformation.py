"""Setting, deleting and inserting at places of the document: a system message for everybody, a member that must go."""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import msgspec

from gateway.hooks.base import ALLOWED, Hook, Resources, SettingsError, Stage, Streams, Subject, Verdict, replaced
from gateway.hooks.documents import FREE_MEMBERS
from gateway.hooks.json_paths import JsonPath, read_path

MOST_CHANGES = 50


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change. `set` puts a value in a place, `insert` before it in a list, `delete` takes it out. A place that is
    not there is left alone, but for the last name of a path that is set."""

    op: Literal["set", "insert", "delete"]
    path: str
    value: Any = None


class TransformationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    request: Annotated[
        list[Change],
        msgspec.Meta(
            description='Changes of requests, one after the other: [{"op": "insert", "path": "$.messages[0]", '
            '"value": {"role": "system", "content": "Answer in French."}}].'
        ),
    ] = []
    answer: Annotated[list[Change], msgspec.Meta(description="The same for whole answers; streams pass.")] = []


class Transformation(Hook[TransformationSettings]):
    name = "transformation"
    description = "Sets, inserts or deletes at places of requests and whole answers, which JSON paths name."
    settings_type = TransformationSettings
    streams = Streams.PASS
    waits = False

    def __init__(self, settings: TransformationSettings, resources: Resources) -> None:
        super().__init__(settings, resources)
        if not settings.request and not settings.answer:
            raise SettingsError("There is nothing to change: give changes of requests or of answers.")
        self._request = _read(settings.request, "request")
        self._answer = _read(settings.answer, "answer")
        stages = {Stage.BEFORE: self._request, Stage.AFTER: self._answer}
        self.stages = frozenset(stage for stage, changes in stages.items() if changes)

    async def before_call(self, request: Subject) -> Verdict:
        return _changed(request.body, self._request)

    async def after_call(self, answer: Subject) -> Verdict:
        return _changed(answer.body, self._answer)


def _read(changes: list[Change], field: str) -> list[tuple[Change, JsonPath]]:
    if len(changes) > MOST_CHANGES:
        raise SettingsError(f"There are at most {MOST_CHANGES} changes.", field)
    read = [(change, read_path(change.path, field=field)) for change in changes]
    for _, path in read:
        if field == "request" and path.root not in FREE_MEMBERS:
            raise SettingsError(
                f"{path.root!r} cannot be changed: routing, limits and budgets have been decided on it. "
                f"What can be is {', '.join(sorted(FREE_MEMBERS))}.",
                field,
            )
    return read


def _changed(body: Any, changes: list[tuple[Change, JsonPath]]) -> Verdict:
    made = copy.deepcopy(body)
    for change, path in changes:
        for holder, key in reversed(path.places(made)):
            _make(change, holder, key=key)
    return replaced(made) if made != body else ALLOWED


def _make(change: Change, holder: Any, *, key: Any) -> None:
    value = copy.deepcopy(change.value)
    if isinstance(holder, list):
        if change.op == "insert":
            holder.insert(key, value)
        elif key < len(holder):
            holder[key : key + 1] = [value] if change.op == "set" else []
        elif change.op == "set":
            holder.append(value)
    elif change.op == "delete":
        holder.pop(key, None)
    elif change.op == "set":
        holder[key] = value


HOOK = Transformation
