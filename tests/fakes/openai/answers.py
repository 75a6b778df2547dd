"""What the fake says to a valid chat request, before it is put on the wire.

Unscripted it repeats the last user message, word by word; fits the asked `response_format`; calls a tool when
`tool_choice` asks for one. `max_tokens` / `max_completion_tokens` cut this ordinary answer (not a scripted one).
"""

import re
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from tests.fakes.openai.samples import sample
from tests.fakes.openai.scripts import Script, ToolCall
from tests.fakes.openai.usage import Produced, prompt_tokens, usage_object

# A long prompt must not become a stream of as many chunks.
MAX_REPEATED_WORDS = 32


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One chat completion; each of its `choices` says the same."""

    script: Script
    model: str
    choices: int = 1
    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    logprobs: bool = False
    prompt_tokens: int = 0
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def usage(self, produced: Produced) -> dict[str, Any] | None:
        """The usage object to send for what was produced; None when the script leaves it out."""
        if self.script.omit_usage:
            return None
        return self.script.usage or usage_object(
            prompt=self.prompt_tokens,
            completion=produced.tokens(),
            reasoning=produced.tokens(only="reasoning"),
            cached=self.script.cached_tokens,
        )


def answer_to(body: dict[str, Any], script: Script) -> Answer:
    """The answer to a valid chat request under `script`."""
    answer = Answer(
        script=script,
        model=body["model"],
        choices=body.get("n") or 1,
        logprobs=bool(body.get("logprobs")),
        prompt_tokens=prompt_tokens(body),
    )
    if script.tool_calls or script.pieces or script.text is not None or script.refusal is not None:
        answer = _scripted(answer, script)
    else:
        answer = _ordinary(answer, body)
    return replace(answer, finish_reason=script.finish_reason) if script.finish_reason else answer


def _scripted(answer: Answer, script: Script) -> Answer:
    pieces = script.pieces or split_words(script.text or "")
    calls = tuple(call if call.id else replace(call, id=_call_id()) for call in script.tool_calls)
    return replace(answer, pieces=pieces, tool_calls=calls, finish_reason="tool_calls" if calls else "stop")


def _ordinary(answer: Answer, body: dict[str, Any]) -> Answer:
    choice = body.get("tool_choice")
    if choice == "required" or (isinstance(choice, dict) and choice.get("type") == "function"):
        call = _forced_call(body["tools"], choice)
        # The vendor ends a call forced by name with "stop", one it chose itself with "tool_calls".
        return replace(answer, tool_calls=(call,), finish_reason="tool_calls" if choice == "required" else "stop")
    text, limit = _ordinary_text(body), body.get("max_completion_tokens") or body.get("max_tokens")
    pieces = split_words(text)
    if limit and len(pieces) > limit:
        return replace(answer, pieces=pieces[:limit], finish_reason="length")
    return replace(answer, pieces=pieces)


def _forced_call(tools: list[dict[str, Any]], choice: Any) -> ToolCall:
    functions = [tool["function"] for tool in tools if tool["type"] == "function"]
    wanted = functions[0]["name"] if choice == "required" else choice["function"]["name"]
    function = next(function for function in functions if function["name"] == wanted)
    arguments = sample(function.get("parameters") or {"type": "object"})
    return ToolCall(name=wanted, arguments=orjson.dumps(arguments).decode(), id=_call_id())


def _ordinary_text(body: dict[str, Any]) -> str:
    wanted = body.get("response_format") or {"type": "text"}
    if wanted["type"] == "json_schema":
        return orjson.dumps(sample(wanted["json_schema"].get("schema") or {"type": "object"})).decode()
    if wanted["type"] == "json_object":
        return '{"answer": "text"}'
    said = [_plain(message.get("content")) for message in body["messages"] if message["role"] == "user"]
    return "You said: " + " ".join((said[-1] if said else "").split()[:MAX_REPEATED_WORDS])


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", f"[{part['type']}]") for part in content or [])


def split_words(text: str) -> tuple[str, ...]:
    """The text in pieces of one word each, spaces kept, so that joining gives it back."""
    return tuple(re.findall(r"\s*\S+(?:\s+$)?|\s+$", text))


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
