"""Refuses what the server refuses, in its words: the first fault found raises `VendorError`.

Unknown members are refused although the server ignores them, so that one that the adapter forgot to take out is seen.
"""

import base64
import binascii
from typing import Any

MEMBERS = {
    "model", "messages", "tools", "format", "options", "stream", "think", "keep_alive", "logprobs", "top_logprobs",
}  # fmt: skip
OPTIONS = {
    "temperature", "top_p", "top_k", "seed", "stop", "num_predict", "num_ctx", "repeat_penalty", "presence_penalty",
    "frequency_penalty",
}  # fmt: skip
MESSAGE = {"role", "content", "thinking", "images", "tool_calls", "tool_name"}
EMBED = {"model", "input", "truncate", "dimensions", "options", "keep_alive"}
MODELS = ("llama3.2:latest", "nomic-embed-text:latest")


class VendorError(Exception):
    """The request is refused as the server would."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.envelope = {"error": message}


def check_model(body: dict[str, Any]) -> None:
    name = body.get("model")
    if not name:
        raise VendorError("model is required")
    if not {name, f"{name}:latest"} & set(MODELS):
        raise VendorError(f"model '{name}' not found", status=404)


def check_chat(body: dict[str, Any]) -> None:
    """Raise VendorError unless `body` is a chat request the server would accept."""
    _known(body, MEMBERS)
    check_model(body)
    _known(body.get("options") or {}, OPTIONS)
    for message in body.get("messages") or ():
        _message(message)
    for tool in body.get("tools") or ():
        if tool.get("type") != "function" or tool["function"].get("parameters", {}).get("type") != "object":
            raise VendorError("invalid tool")
    if body.get("format") not in (None, "", "json") and not isinstance(body["format"], dict):
        raise VendorError('invalid JSON schema in format: expected one of "json" or a JSON schema')
    if body.get("think") not in (None, True, False, "low", "medium", "high", "max"):
        raise VendorError(f"invalid think value: {body['think']!r}")


def check_embed(body: dict[str, Any]) -> None:
    """Raise VendorError unless `body` is an embeddings request the server would accept."""
    _known(body, EMBED)
    check_model(body)
    given = body.get("input")
    if not (isinstance(given, str) or (isinstance(given, list) and all(isinstance(item, str) for item in given))):
        raise VendorError("invalid input type")


def _known(given: dict[str, Any], names: set[str]) -> None:
    for name in given:
        if name not in names:
            raise VendorError(f"the fake knows no {name!r} here")


def _message(message: dict[str, Any]) -> None:
    _known(message, MESSAGE)
    if message.get("role") not in ("system", "user", "assistant", "tool"):
        raise VendorError("invalid role")
    if not isinstance(message.get("content", ""), str):
        raise VendorError("json: cannot unmarshal array into Go struct field ChatRequest.messages.content")
    for call in message.get("tool_calls") or ():
        if not isinstance(call["function"].get("arguments"), dict):
            raise VendorError("json: cannot unmarshal string into Go struct field ToolCallFunction.arguments")
    for image in message.get("images") or ():
        try:
            base64.b64decode(image, validate=True)
        except binascii.Error as error:
            raise VendorError("illegal base64 data at input byte 4") from error
