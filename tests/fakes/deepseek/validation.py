"""Refuses what DeepSeek refuses and OpenAI does not, in its words. Unknown members are refused, so that one that the
adapter forgot to take out is seen."""

from typing import Any

from tests.fakes.openai.errors import VendorError
from tests.fakes.openai.validation import check_chat

MEMBERS = {
    "model", "messages", "thinking", "reasoning_effort", "frequency_penalty", "presence_penalty", "max_tokens",
    "response_format", "stop", "stream", "stream_options", "temperature", "top_p", "tools", "tool_choice", "logprobs",
    "top_logprobs",
}  # fmt: skip
MESSAGE = {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"}
EFFORTS = {"minimal", "low", "medium", "high", "xhigh", "max", "ultra"}
NOT_PASSED_BACK = "The `reasoning_content` in the thinking mode must be passed back to the API."


def check_deepseek(body: dict[str, Any]) -> None:
    """Raise VendorError unless `body` is a chat request DeepSeek would accept."""
    check_chat(body)
    for name in body:
        if name not in MEMBERS:
            raise _wrong(f"unknown field `{name}`")
    for message in body["messages"]:
        _message(message)
    wanted = (body.get("response_format") or {}).get("type", "text")
    if wanted not in ("text", "json_object"):
        raise VendorError("This response_format type is unavailable now")
    if body.get("reasoning_effort") not in {None, *EFFORTS}:
        raise _wrong("reasoning_effort: unknown variant")
    for tool in body.get("tools") or ():
        if tool["type"] != "function" or "strict" in tool["function"]:
            raise _wrong("tools: unknown variant, expected `function`")
    if isinstance(body.get("tool_choice"), dict) and body["tool_choice"].get("type") != "function":
        raise _wrong("tool_choice: unknown variant")


def thinks(body: dict[str, Any]) -> bool:
    """Whether thinking is on, which it is unless it is switched off."""
    return (body.get("thinking") or {}).get("type", "enabled") != "disabled"


def _wrong(problem: str) -> VendorError:
    return VendorError(f"Failed to deserialize the JSON body into the target type: {problem}", status=422)


def _message(message: dict[str, Any]) -> None:
    if message["role"] not in ("system", "user", "assistant", "tool"):
        raise _wrong(f"messages: unknown variant `{message['role']}`")
    if set(message) - MESSAGE:
        raise _wrong(f"messages: unknown fields {sorted(set(message) - MESSAGE)}")
    if isinstance(message.get("content"), list):
        for part in message["content"]:
            if part["type"] not in ("text", "image_url") or set(part) - {"type", part["type"]}:
                raise _wrong(f"messages.content: unknown variant `{part['type']}`")


def check_thoughts(body: dict[str, Any], given: dict[str, str]) -> None:
    """Each turn with tool calls has its thoughts, and where this fake gave them (`given`, by call id) just these."""
    for message in body["messages"]:
        if not message.get("tool_calls") or not thinks(body):
            continue
        expected = given.get(message["tool_calls"][0]["id"])
        sent = message.get("reasoning_content")
        if sent is None or (expected is not None and sent != expected):
            raise VendorError(NOT_PASSED_BACK)
