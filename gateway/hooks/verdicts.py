"""What a verdict must be to be acted on: hooks are written by anybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.context import HookNote
from gateway.hooks.base import Action, Edit, Stage, Verdict
from gateway.hooks.documents import FREE_MEMBERS, Document, RubbishError

WRITTEN = ("prompt", "input")
"""Members that an operation of media has its words in: they stay words."""
LISTED = ("choices", "data", "segments")
"""Members of an answer that are lists of objects: what follows reads them as such."""


def check(verdict: object) -> None:
    """Whether it is a verdict at all. Raises `RubbishError`."""
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


def accepting(document: Document, note: HookNote, *, stage: Stage) -> Callable[[Verdict], None]:
    """What makes a verdict's changes in a document. It raises `RubbishError` and changes nothing."""

    def accept(verdict: Verdict) -> None:
        if verdict.body is None:
            note.add_fields(document.edit(verdict.edits))
            return
        if not isinstance(verdict.body, dict):
            raise RubbishError("Its body is no JSON object.")
        body = _plain(verdict.body)
        if stage is Stage.BEFORE:
            _check_members(document.body, body)
        else:
            _check_answer(document.body, body)
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
    for name in WRITTEN:
        if name in before and not body.get(name):
            raise RubbishError(f"It leaves no {name}.")
        if isinstance(before.get(name), str) and not isinstance(body[name], str):
            raise RubbishError(f"It leaves something else than text as {name}.")


def _check_answer(before: dict[str, Any], body: dict[str, Any]) -> None:
    for name in LISTED:
        if (before.get(name) is not None or body.get(name) is not None) and not _is_list_of_objects(body.get(name)):
            raise RubbishError(f"It leaves no list of objects as {name}.")
    if not all(isinstance(choice.get("message"), dict) for choice in body.get("choices") or ()):
        raise RubbishError("It leaves a choice without its message.")
    if "texts" in before and not _are_texts(body.get("texts"), len(before["texts"])):
        raise RubbishError("It leaves other texts than there were.")
    if isinstance(before.get("text"), str) and not isinstance(body.get("text"), str):
        raise RubbishError("It leaves a transcript without its text.")
    for segment in body.get("segments") or ():
        if not isinstance(segment.get("text"), str) or not _are_numbers(segment.get("start"), segment.get("end")):
            raise RubbishError("It leaves a segment without its times or its text.")


def _are_numbers(*values: object) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _are_texts(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(one, str) for one in value)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)
