"""Streams whose answer is held to a schema: checked at their end, or begun only when it is valid."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from gateway.context import Trace
from gateway.errors import ResponseValidationFailedError
from gateway.observation import CHECKED_ANSWERS
from gateway.schemas.checking import Choice, Fault, Finding, Function, Message, ToolCall, examine_choices, violations_of
from gateway.schemas.expectations import Expectation
from gateway.streaming import DONE, EventStream, Send

LONGEST_CHECKED = 4 * 1024 * 1024
"""How much of a stream is kept for being checked, in bytes of events."""

DATA, BETWEEN = b"data: ", b"\n\n"


class FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class CallDelta(msgspec.Struct):
    index: int = 0
    function: FunctionDelta | None = None


class Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChoiceDelta(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None


class Event(msgspec.Struct):
    choices: list[ChoiceDelta] = []


_decode = msgspec.json.Decoder(Event).decode


class CheckedStream:
    """A stream on its way to the client, which is looked at when it is over. What does not match ends with an error
    event instead of the mark that all is well. Nothing is repaired: the client has it already."""

    def __init__(self, reply: EventStream, expected: Expectation, *, trace: Trace) -> None:
        self._reply = reply
        self._expected = expected
        self._trace = trace
        self._heard: list[bytes] = []
        self._size = 0

    async def write(self, send: Send) -> None:
        """Send the body of the response."""

        async def look_and_send(message: dict[str, Any]) -> None:
            body = message["body"]
            self._hear(body)
            if not message["more_body"] and body.endswith(DONE):
                message = {**message, "body": body.removesuffix(DONE) + self._ending()}
            await send(message)

        await self._reply.write(look_and_send)

    def close(self) -> None:
        """Let go of a stream that is over or whose client has left."""
        self._reply.close()

    def _hear(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= LONGEST_CHECKED:
            self._heard.append(body)

    def _ending(self) -> bytes:
        """The mark of the end, or the event that says why the answer does not do."""
        faults = self._faults()
        CHECKED_ANSWERS.labels("failed" if faults else "valid").inc()
        if not faults:
            return DONE
        error = ResponseValidationFailedError(violations_of(faults), finish_reason="error")
        words = sorted({found.word for fault in faults for found in fault.violations})
        self._trace.notes[-1].message = f"The answer did not match its schema: {', '.join(words)}."[:500]
        self._trace.error_code = error.code
        return b"data: %b\n\n" % error.envelope(self._trace.request_id)

    def _faults(self) -> list[Fault]:
        if self._size > LONGEST_CHECKED:
            return [Fault.of_all("length", f"it is longer than the {LONGEST_CHECKED} bytes that are checked")]
        finding: Finding = examine_choices(_told(b"".join(self._heard)), self._expected, may_repair=False)
        return finding.faults


def _told(events: bytes) -> list[Choice]:
    """The choices that a stream has told."""
    said: dict[int, list[ChoiceDelta]] = defaultdict(list)
    for event in events.split(BETWEEN):
        data = event.removeprefix(DATA)
        if not data.startswith(b"{"):
            continue
        try:
            for choice in _decode(data).choices:
                said[choice.index].append(choice)
        except (msgspec.ValidationError, msgspec.DecodeError):
            continue  # a vendor's event of another form says nothing that could be checked
    return [_choice(said[index]) for index in sorted(said)]


def _choice(pieces: list[ChoiceDelta]) -> Choice:
    deltas = [piece.delta for piece in pieces if piece.delta is not None]
    calls: dict[int, tuple[list[str], list[str]]] = {}
    for call in (call for delta in deltas for call in delta.tool_calls or ()):
        names, arguments = calls.setdefault(call.index, ([], []))
        if call.function is not None:
            names.append(call.function.name or "")
            arguments.append(call.function.arguments or "")
    return Choice(
        message=Message(
            content="".join(delta.content or "" for delta in deltas),
            refusal="".join(delta.refusal or "" for delta in deltas) or None,
            tool_calls=[
                ToolCall(function=Function("".join(names), "".join(arguments)))
                for _, (names, arguments) in sorted(calls.items())
            ],
        ),
        finish_reason=next((piece.finish_reason for piece in reversed(pieces) if piece.finish_reason), None),
    )


class HeldStream:
    """A whole answer as the stream that its client asked for: one chunk for each thing said."""

    def __init__(self, body: bytes, *, with_usage: bool) -> None:
        self._body = body
        self._with_usage = with_usage

    async def write(self, send: Send) -> None:
        """Send the body of the response."""
        await send({"type": "http.response.body", "body": as_events(self._body, self._with_usage), "more_body": False})

    def close(self) -> None:
        """There is nothing to let go of."""


def as_events(body: bytes, with_usage: bool) -> bytes:
    """A `chat.completion` as events of `chat.completion.chunk`s."""
    answer = msgspec.json.decode(body)
    head = {name: answer[name] for name in ("id", "created", "model", "system_fingerprint") if name in answer}
    head["object"] = "chat.completion.chunk"
    chunks: list[dict[str, Any]] = []
    for choice in answer["choices"]:
        chunks += ({**head, "choices": [part]} for part in _parts(choice))
    if with_usage and answer.get("usage") is not None:
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(chunk) for chunk in chunks) + DONE


def _parts(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """A choice as a stream tells it: who speaks, what is said, how it ended."""
    index = choice.get("index", 0)
    message = {name: value for name, value in choice["message"].items() if name != "role" and value is not None}
    calls = message.pop("tool_calls", None)
    if calls:
        message["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, message, {}]
    return [
        {
            "index": index,
            "delta": delta,
            "logprobs": choice.get("logprobs") if delta is message else None,
            "finish_reason": choice.get("finish_reason") if not delta else None,
        }
        for delta in deltas
    ]
