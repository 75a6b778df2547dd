"""The questions of the contract: a request in OpenAI's shape, what the provider is told to say, what clients must get.

Without a script the fakes repeat the last user message, fit schemas and obey `tool_choice`, each in its own protocol.
So an equal answer also says that the request arrived.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.openai.scripts import Script, ToolCall

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CALL_ID = "call_abc123"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row. What is left alone is not asked about."""

    name: str
    ask: dict[str, Any] = field(default_factory=dict)
    script: Script | None = None
    content: str | None = "You said: good morning"
    calls: tuple[tuple[str, Any], ...] = ()
    """Name and arguments of each tool call."""
    finish_reason: str = "stop"
    reasoning: str = ""
    usage: tuple[int, int] | None = None
    """Prompt and completion tokens by the fakes' rule: words."""
    cached_tokens: int = 0
    reasoning_tokens: int = 0


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def function(name: str, *required: str, **more: Any) -> dict[str, Any]:
    properties = {word: {"type": "string"} for word in required}
    schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": schema, **more}}


def called(*calls: tuple[str, str, str], content: Any = None) -> dict[str, Any]:
    """An assistant's message with calls: id, name, arguments."""
    made = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls]
    return {"role": "assistant", "content": content, "tool_calls": made}


def result(call_id: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def schema(body: dict[str, Any], *, strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "form", "strict": strict, "schema": body}}


HELLO = user("good morning")
WEATHER = function("weather", "city")
NOW = {"type": "function", "function": {"name": "now"}}
CUSTOM = {"type": "custom", "custom": {"name": "shell"}}
ROME, OSLO = '{"city":"Rome"}', '{"city":"Oslo"}'
PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Person",
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "home": {"$ref": "#/$defs/Home"}},
    "required": ["name", "home"],
    "additionalProperties": False,
    "$defs": {
        "Home": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        }
    },
}
UNICODE = 'Grüße 🌍👩‍👩‍👧 日本語 "quoted" back\\slash \u2028 end'

TEXTS = (
    Question(name="text", usage=(2, 4)),
    Question(name="parts", ask={"messages": user([{"type": "text", "text": "good"}, {"type": "text", "text": "day"}])},
             content="You said: good day"),
    Question(name="multi-turn", content="You said: and you?", usage=(6, 4), ask={"messages": [
        *HELLO, {"role": "assistant", "content": "hello there"}, *user("and you?")]}),
    Question(name="system", usage=(4, 4), ask={"messages": [{"role": "system", "content": "be kind"}, *HELLO]}),
    Question(name="developer", usage=(4, 4), ask={"messages": [{"role": "developer", "content": "be kind"}, *HELLO]}),
    Question(name="system-in-parts", ask={"messages": [
        {"role": "system", "content": [{"type": "text", "text": "be kind"}]}, *HELLO]}),
    Question(name="late-system", ask={"messages": [*HELLO, {"role": "system", "content": "be brief"}]}),
    Question(name="named-user", ask={"messages": [{"role": "user", "name": "ada", "content": "good morning"}]}),
    Question(name="neighbouring-users", script=Script(text="Both."), content="Both.", usage=(2, 1),
             ask={"messages": [*user("one"), *user("two")]}),
    Question(name="unicode-in", ask={"messages": user("Grüße 🌍 日本語")}, content="You said: Grüße 🌍 日本語"),
    Question(name="unicode-out", script=Script(text=UNICODE), content=UNICODE),
    Question(name="many-pieces", script=Script(pieces=tuple(f"w{n} " for n in range(64))),
             content="".join(f"w{n} " for n in range(64))),
    Question(name="empty-answer", script=Script(text=""), content=""),
    Question(name="empty-assistant", script=Script(text="Here."), content="Here.", usage=(4, 1), ask={"messages": [
        *HELLO, {"role": "assistant", "content": ""}, *user("still there?")]}),
    Question(name="refusal-in-history", ask={"messages": [
        *user("do harm"), {"role": "assistant", "content": None, "refusal": "No."}, *HELLO]}),
    Question(name="unknown-member", ask={"x_unknown": {"deep": [1, None]}}),
)  # fmt: skip

LIMITS = (
    Question(name="max-tokens", ask={"max_tokens": 2}, content="You said:", finish_reason="length", usage=(2, 2)),
    Question(name="max-completion-tokens", ask={"max_completion_tokens": 3}, content="You said: good",
             finish_reason="length"),
    Question(name="stop-text", ask={"stop": "END"}),
    Question(name="stop-list", ask={"stop": ["END", "\n\nHuman:"]}),
    Question(name="stop-null", ask={"stop": None}),
    Question(name="sampling", ask={"temperature": 0.2, "top_p": 0.9, "seed": 7, "presence_penalty": 0.5}),
    Question(name="user", ask={"user": "u-1"}),
    Question(name="cut-off", script=Script(text="and then", finish_reason="length"), content="and then",
             finish_reason="length"),
    Question(name="filtered", script=Script(text="well", finish_reason="content_filter"), content="well",
             finish_reason="content_filter"),
    Question(name="several-answers", ask={"n": 2}),
    Question(name="logprobs", ask={"logprobs": True}),
)  # fmt: skip

TOOLS = (
    Question(name="tools-unused", ask={"tools": [WEATHER, NOW]}),
    Question(name="tool", ask={"tools": [WEATHER]}, content=None, calls=(("weather", {"city": "Rome"}),),
             script=Script(tool_calls=(ToolCall(name="weather", arguments=ROME),)), finish_reason="tool_calls"),
    Question(name="tool-after-text", ask={"tools": [WEATHER]}, content="Let me look.",
             script=Script(text="Let me look.", tool_calls=(ToolCall(name="weather", arguments=ROME),)),
             calls=(("weather", {"city": "Rome"}),), finish_reason="tool_calls"),
    Question(name="parallel-tools", ask={"tools": [WEATHER, NOW]}, content=None, script=Script(tool_calls=(
        ToolCall(name="weather", arguments=ROME), ToolCall(name="now"), ToolCall(name="weather", arguments=OSLO))),
        calls=(("weather", {"city": "Rome"}), ("now", {}), ("weather", {"city": "Oslo"})), finish_reason="tool_calls"),
    Question(name="empty-arguments", ask={"tools": [NOW]}, content=None, calls=(("now", {}),),
             script=Script(tool_calls=(ToolCall(name="now"),)), finish_reason="tool_calls"),
    Question(name="unicode-arguments", ask={"tools": [WEATHER]}, content=None,
             script=Script(tool_calls=(ToolCall(name="weather", arguments='{"city":"Zürich \\"🌍\\""}'),)),
             calls=(("weather", {"city": 'Zürich "🌍"'}),), finish_reason="tool_calls"),
    Question(name="tool-required", ask={"tools": [WEATHER], "tool_choice": "required"}, content=None,
             calls=(("weather", {"city": "text"}),), finish_reason="tool_calls"),
    Question(name="tool-named", content=None, calls=(("weather", {"city": "text"}),), finish_reason="",
             ask={"tools": [NOW, WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}}),
    Question(name="tool-none", ask={"tools": [WEATHER], "tool_choice": "none"}),
    Question(name="one-at-a-time", ask={"tools": [WEATHER], "parallel_tool_calls": False}),
    Question(name="custom-tool", ask={"tools": [CUSTOM], "tool_choice": "none"}),
    Question(name="tool-result", content=None, script=Script(text="It is sunny."), usage=(6, 3), ask={
        "tools": [WEATHER],
        "messages": [*HELLO, called((CALL_ID, "weather", ROME)), result(CALL_ID, "sunny and very hot")]}),
    Question(name="parallel-results", content="It varies.", script=Script(text="It varies."), ask={
        "tools": [WEATHER],
        "messages": [*HELLO, called(("a", "weather", ROME), ("b", "weather", OSLO), content="Looking."),
                     result("b", "rain"), result("a", [{"type": "text", "text": "sun"}])]}),
    Question(name="foreign-ids", ask={"tools": [NOW], "messages": [
        *HELLO, called(("functions.now:0", "now", "")), result("functions.now:0", ""), *HELLO]}),
    Question(name="broken-arguments", ask={"tools": [WEATHER], "messages": [
        *HELLO, called((CALL_ID, "weather", '{"city": "Ro')), result(CALL_ID, "not JSON"), *HELLO]}),
)  # fmt: skip

MEDIA = (
    Question(name="image-data", content="You said: what [image_url]", usage=(2, 4), ask={"messages": user([
        {"type": "text", "text": "what"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}])}),
    Question(name="image-url", content="You said: what [image_url]", ask={"messages": user([
        {"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "https://10.0.0.1/a.png"}}])}),
    Question(name="document", content="You said: what [file]", ask={"messages": user([
        {"type": "text", "text": "what"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQ="}}])}),
    Question(name="audio-in", content="You said: what [input_audio]", ask={"messages": user([
        {"type": "text", "text": "what"}, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}])}),
)  # fmt: skip

FORMS = (
    Question(name="json-schema", ask={"response_format": schema(PERSON)},
             content=json.dumps({"name": "text", "home": {"city": "text"}}, separators=(",", ":"))),
    Question(name="json-object", ask={"messages": user("answer in JSON"), "response_format": {"type": "json_object"}},
             script=Script(text='{"a": 1}'), content='{"a": 1}'),
    Question(name="text-format", ask={"response_format": {"type": "text"}}),
    Question(name="reasoning", ask={"reasoning_effort": "low"}, content="Forty-two.", reasoning="let me see",
             script=Script(reasoning="let me see", text="Forty-two."), usage=(2, 4), reasoning_tokens=3),
    Question(name="reasoning-and-tool", ask={"tools": [NOW], "reasoning_effort": "high"}, content=None,
             script=Script(reasoning="which hour", tool_calls=(ToolCall(name="now"),)), calls=(("now", {}),),
             reasoning="which hour", finish_reason="tool_calls"),
    Question(name="cached-prompt", script=Script(text="yes", cached_tokens=1), content="yes", usage=(2, 1),
             cached_tokens=1),
)  # fmt: skip

QUESTIONS = (*TEXTS, *LIMITS, *TOOLS, *MEDIA, *FORMS)
