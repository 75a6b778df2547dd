"""An answer that is held to a schema: checked, repaired where that takes no guess, asked for once more, refused.

Asking again is an attempt like any other: its own reservation, its own charge, its own line in the trace.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.context import Call, Trace
from gateway.errors import GatewayError, ResponseValidationFailedError
from gateway.failover import ATTEMPTS_PER_REQUEST, first_answer
from gateway.observation import CHECKED_ANSWERS
from gateway.schemas.checking import Choice, Fault, Finding, examine, repaired, violations_of
from gateway.schemas.streams import CheckedStream, HeldStream
from gateway.streaming import EventStream, StreamReply, WholeReply
from providers.conversation import arguments_object
from providers.types import Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway

MOST_SENT_BACK = 32 * 1024
"""How much of a broken answer the model is shown again, in characters."""

AGAIN = "Your answer does not match its JSON Schema:\n{problems}\nAnswer again, with the JSON value alone."
CALL_AGAIN = "The arguments do not match the tool's JSON Schema, so it was not run:\n{problems}\nCall it again."
NOT_RUN = "Not run, because another call beside it had wrong arguments. Call it again."


async def checked_answer(
    gateway: Gateway, call: Call, *, trace: Trace, targets: list[Target]
) -> WholeReply | StreamReply:
    """Answer a call whose answer is held to something: whole, one that holds; a stream is checked on its way
    (`as_asked`). Raises `GatewayError`."""
    expected = call.expected
    assert expected is not None
    reply = await first_answer(gateway, call, trace=trace, targets=targets)
    if isinstance(reply, StreamReply):
        return reply
    finding = examine(reply.body, expected)
    outcome = "repaired" if finding.repairs else "valid"
    if finding.faults:
        _tell(trace, finding)
        reply = await _asked_again(gateway, call, trace=trace, targets=targets, finding=finding)
        finding, outcome = examine(reply.body, expected), "reasked"
        if finding.faults:
            _tell(trace, finding)
            raise _failed(trace, finding, asked_again=True)
    CHECKED_ANSWERS.labels(outcome).inc()
    trace.validation = outcome
    return WholeReply(repaired(reply.body, finding.repairs))


def as_asked(reply: WholeReply | EventStream, call: Call, *, trace: Trace) -> WholeReply | EventStream:
    """The answer in the form its client asked for: a stream that is checked at its end, or one that was held."""
    assert call.expected is not None
    if not isinstance(reply, WholeReply):
        return CheckedStream(reply, call.expected, trace=trace)
    return HeldStream(reply.body, with_usage=call.wants_usage_chunk) if trace.stream else reply


async def _asked_again(
    gateway: Gateway, call: Call, *, trace: Trace, targets: list[Target], finding: Finding
) -> WholeReply:
    """The model's second answer. Raises `ResponseValidationFailedError` where there is none to be had."""
    if len(trace.notes) >= ATTEMPTS_PER_REQUEST:
        raise _failed(trace, finding, reason=f"{ATTEMPTS_PER_REQUEST} attempts had been made already.")
    answered = trace.target
    again = call_again(call, finding)
    first = sorted(targets, key=lambda target: target is not answered)
    try:
        reply = await first_answer(gateway, again, trace=trace, targets=first)
    except GatewayError as error:
        raise _failed(trace, finding, reason=error.message, code=error.code) from error
    assert isinstance(reply, WholeReply)
    return reply


def _tell(trace: Trace, finding: Finding) -> None:
    """Note in the trace that the last attempt's answer did not do. Not a word of the answer goes there."""
    trace.notes[-1].message = f"The answer did not match its schema: {', '.join(finding.words)}."[:500]


def _failed(
    trace: Trace, finding: Finding, *, asked_again: bool = False, reason: str = "", code: str = ""
) -> ResponseValidationFailedError:
    CHECKED_ANSWERS.labels("failed").inc()
    trace.validation = "failed"
    return ResponseValidationFailedError(
        violations_of(finding.faults), asked_again=asked_again, reason=reason, reason_code=code
    )


def call_again(call: Call, finding: Finding) -> Call:
    """The call with the first broken answer and what is wrong with it at the end of its conversation."""
    number = finding.faults[0].choice
    faults = [fault for fault in finding.faults if fault.choice == number]
    said, first_id = _turn(finding.choices[number] if finding.choices else None, faults)
    added = msgspec.json.encode(said)[1:]
    members = dict(call.wire.members)
    members["messages"] = msgspec.Raw(b"%b,%b" % (bytes(members["messages"]).rstrip()[:-1], added))
    turns = (*call.wire.tool_turns, first_id) if first_id is not None else call.wire.tool_turns
    wire = msgspec.structs.replace(call.wire, members=members, tool_turns=turns)
    return dataclasses.replace(call, wire=wire, input_bytes=call.input_bytes + len(added))


def _turn(choice: Choice | None, faults: list[Fault]) -> tuple[list[dict[str, Any]], str | None]:
    """The model's turn and the answer to it; with the id of its first call, if it made any."""
    problems = "\n".join(f"- {found.path or 'the value'}: {found.message}" for found in faults[0].violations)
    message = choice.message if choice is not None else None
    if message is None or not message.tool_calls:
        content = (message.content or "") if message is not None else ""
        own = [{"role": "assistant", "content": content[:MOST_SENT_BACK]}] if content.strip() else []
        return [*own, {"role": "user", "content": AGAIN.format(problems=problems)}], None
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {
                "name": call.function.name,
                "arguments": bytes(arguments_object(call.function.arguments or "")).decode(),
            },
        }
        for call in message.tool_calls
        if call.function is not None
    ]
    wrong = {message.tool_calls[fault.call].id: fault for fault in faults if fault.call is not None}
    results = []
    for call in calls:
        fault = wrong.get(str(call["id"]))
        if fault is None:
            text = NOT_RUN
        else:
            listed = "\n".join(f"- {found.path or 'the arguments'}: {found.message}" for found in fault.violations)
            text = CALL_AGAIN.format(problems=listed)
        results.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    own_turn: dict[str, Any] = {"role": "assistant", "content": message.content, "tool_calls": calls}
    return [own_turn, *results], message.tool_calls[0].id
