"""Short ways to ask the fake a chat question in its own tests."""

from typing import Any

import httpx
from openai import OpenAI

from tests.fakes.openai_server import FakeOpenAI

HELLO = [{"role": "user", "content": "good morning to you"}]


def say(client: OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**({"model": "gpt-5.2", "messages": HELLO} | more))


def raw_stream(fake: FakeOpenAI, **more: Any) -> list[str]:
    """The lines of a stream exactly as sent."""
    body = {"model": "gpt-5.2", "messages": HELLO, "stream": True} | more
    headers = {"authorization": f"Bearer {fake.api_key}"}
    answer = httpx.post(f"{fake.base_url}/chat/completions", json=body, headers=headers, trust_env=False)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return [line for line in answer.text.split("\n") if line]
