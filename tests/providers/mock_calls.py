"""Calls of the mock through its adapter, as the gateway makes them."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from providers.adapters.mock import ADAPTER
from providers.mock_provider import MockReply, answer
from providers.types import Target, WireRequest

TARGET = Target(
    deployment_id=1, model_id=1, model_name="mock-chat", provider_name="mock", kind="mock", base_url="",
    allow_private_network=False, secret=None, upstream_model="mock-chat",
)  # fmt: skip
HELLO = [{"role": "user", "content": "hello"}]


def ask(operation: str = "chat", **members: Any) -> MockReply:
    """The mock's reply to a client's body, through the adapter as in the gateway."""
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}
    request = WireRequest(operation=operation, members=raw, stream=members.get("stream") is True)
    return answer(ADAPTER.build_request(request, TARGET))


def body_of(reply: MockReply) -> dict[str, Any]:
    [(wait, data)] = reply.parts
    assert wait == 0
    return json.loads(data)
