"""One adapter's place in the running gateway, and what clients read in its answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.fakes.server import FakeVendor
from tests.providers.contract.providers import UnderContract


@dataclass
class Side:
    """One adapter's place in the running gateway."""

    provider: UnderContract
    fake: FakeVendor | None
    model: str
    client: httpx.Client


def whole(body: dict[str, Any]) -> dict[str, Any]:
    """What a whole answer says; the SDK's own type reads it."""
    ChatCompletion.model_validate(body)
    message = body["choices"][0]["message"]
    return {
        "content": message["content"],
        "reasoning": message.get("reasoning_content") or "",
        "calls": [call["function"] | {"id": call["id"]} for call in message.get("tool_calls") or ()],
        "finish_reason": body["choices"][0]["finish_reason"],
        "usage": body["usage"],
    }


def joined(text: str) -> dict[str, Any]:
    """What a stream says when its deltas are put together as a client would."""
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    said: dict[str, Any] = {"content": None, "reasoning": "", "calls": [], "finish_reason": None, "usage": None}
    ids = set()
    for event in map(json.loads, events):
        ChatCompletionChunk.model_validate(event)
        ids.add(event["id"])
        if event.get("usage"):
            assert event["choices"] == [] and said["usage"] is None
            said["usage"] = event["usage"]
        for choice in event["choices"]:
            if choice["index"] == 0:
                add_delta(said, choice)
    assert len(ids) == 1
    return said


def add_delta(said: dict[str, Any], choice: dict[str, Any]) -> None:
    delta = choice["delta"]
    if delta.get("content") is not None:
        said["content"] = (said["content"] or "") + delta["content"]
    said["reasoning"] += delta.get("reasoning_content") or ""
    for call in delta.get("tool_calls") or ():
        if call["index"] == len(said["calls"]):
            said["calls"].append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
        else:
            assert "id" not in call and call["index"] == len(said["calls"]) - 1
        said["calls"][-1]["arguments"] += call["function"].get("arguments", "")
    said["finish_reason"] = choice["finish_reason"] or said["finish_reason"]
