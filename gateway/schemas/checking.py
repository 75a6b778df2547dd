"""Holding a whole answer to what is expected of it: is it valid, can it be repaired here, what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from gateway.schemas.expectations import Expectation
from gateway.schemas.repairs import NotJsonError, candidates, parse
from gateway.schemas.validators import MOST_VIOLATIONS, Validator, Violation

CUT_OFF = "length"


class Function(msgspec.Struct):
    name: str = ""
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    id: str = ""
    function: Function | None = None


class Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct):
    message: Message
    finish_reason: str | None = None


class Body(msgspec.Struct):
    choices: list[Choice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with one text of an answer: `choice`'s content, or the arguments of the `call`-th of its calls."""

    choice: int
    call: int | None
    violations: tuple[Violation, ...]

    @classmethod
    def of_all(cls, word: str, message: str) -> Fault:
        """One that is about no particular text."""
        return cls(choice=0, call=None, violations=(_violation(word, message),))

    @property
    def place(self) -> str:
        """Where it is in the answer."""
        at = f"choices[{self.choice}].message"
        return f"{at}.content" if self.call is None else f"{at}.tool_calls[{self.call}].function.arguments"


@dataclass(slots=True)
class Finding:
    """What came of looking at an answer."""

    choices: list[Choice]
    faults: list[Fault] = field(default_factory=list)
    repairs: dict[tuple[int, int | None], str] = field(default_factory=dict)
    """The text to put in place of one that was not JSON by itself: by choice and call, as in `Fault`."""

    @property
    def words(self) -> list[str]:
        """By which words of the schema it failed: all that may be told to a log."""
        return sorted({violation.word for fault in self.faults for violation in fault.violations})


_decode = msgspec.json.Decoder(Body).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode


def examine(body: bytes, expected: Expectation) -> Finding:
    """Look at a whole answer in OpenAI's shape."""
    try:
        choices = _decode(body).choices
    except (msgspec.ValidationError, msgspec.DecodeError):
        choices = []
    return examine_choices(choices, expected)


def examine_choices(choices: list[Choice], expected: Expectation, *, may_repair: bool = True) -> Finding:
    """Look at each answer. One that the model refused to give is held to nothing, nor is the text beside tool calls."""
    finding = Finding(choices)
    if not choices:
        finding.faults.append(Fault.of_all("text", "there is no text to read"))
    for number, choice in enumerate(choices):
        message = choice.message
        if message.refusal or choice.finish_reason == "content_filter":
            continue
        was_cut_off = choice.finish_reason == CUT_OFF
        look = partial(_look, finding, may_repair=may_repair, was_cut_off=was_cut_off)
        for position, call in enumerate(message.tool_calls or ()):
            validator = expected.arguments.get(call.function.name) if call.function is not None else None
            if validator is not None and call.function is not None:
                text = call.function.arguments or ""
                look(text, validator=validator, place=(number, position))
        if expected.answer is not None and not message.tool_calls:
            text = message.content or ""
            look(text, validator=expected.answer, place=(number, None))
    return finding


def _look(
    finding: Finding,
    text: str,
    *,
    validator: Validator,
    place: tuple[int, int | None],
    may_repair: bool,
    was_cut_off: bool,
) -> None:
    violations = _verdict(text, validator)
    if not violations:
        return
    fitting = []
    for mended, value in candidates(text) if may_repair else ():
        found = validator.violations(value)
        if not found:
            fitting.append(mended)
        elif violations[0].word == "json":
            violations = found
    if len(fitting) == 1:
        finding.repairs[place] = fitting[0]
        return
    if len(fitting) > 1:
        violations = [_violation("ambiguous", f"there are {len(fitting)} values in it that all match")]
    if was_cut_off:
        violations = [_violation("length", "the answer was cut off at its limit of tokens"), *violations]
    number, call = place
    finding.faults.append(Fault(choice=number, call=call, violations=tuple(violations[:MOST_VIOLATIONS])))


def _verdict(text: str, validator: Validator) -> list[Violation]:
    if not text.strip():
        return [_violation("json", "it is empty")]
    try:
        return validator.violations(parse(text))
    except NotJsonError as error:
        return [_violation("json", f"it is not JSON: {error}")]


def _violation(word: str, message: str) -> Violation:
    return Violation(path="", word=word, message=message)


def violations_of(faults: Iterable[Fault]) -> list[dict[str, str]]:
    """What is wrong, as clients are told."""
    return [
        {"in": fault.place, "path": found.path, "keyword": found.word, "message": found.message}
        for fault in faults
        for found in fault.violations
    ]


def repaired(body: bytes, repairs: Mapping[tuple[int, int | None], str]) -> bytes:
    """The answer with these texts in place of its own; everything else keeps its bytes."""
    if not repairs:
        return body
    members = _decode_members(body)
    choices = _decode_items(members["choices"])
    for (number, call), text in repairs.items():
        choice = _decode_members(choices[number])
        message = _decode_members(choice["message"])
        if call is None:
            message["content"] = _raw(text)
        else:
            calls = _decode_items(message["tool_calls"])
            one = _decode_members(calls[call])
            one["function"] = _raw({**_decode_members(one["function"]), "arguments": text})
            calls[call] = _raw(one)
            message["tool_calls"] = _raw(calls)
        choice["message"] = _raw(message)
        choices[number] = _raw(choice)
    members["choices"] = _raw(choices)
    return _encode(members)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
