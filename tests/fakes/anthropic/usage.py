"""The fake's usage rule: the fake OpenAI's words (`tests/fakes/openai/usage.py`) in the vendor's buckets."""

from typing import Any

from tests.fakes.openai.usage import words


def prompt_tokens(body: dict[str, Any]) -> int:
    """Words of the system and of every text, also inside tool results; one for each picture or document."""
    return _tokens(body.get("system")) + sum(_tokens(message["content"]) for message in body["messages"])


def _tokens(content: Any) -> int:
    if isinstance(content, str):
        return words(content)
    total = 0
    for block in content or []:
        if block["type"] == "text":
            total += words(block["text"])
        elif block["type"] == "tool_result":
            total += _tokens(block.get("content"))
        elif block["type"] in ("image", "document"):
            total += 1
    return total


def input_usage(prompt: int, cached: int) -> dict[str, Any]:
    """What `message_start` says: cached tokens stand apart from `input_tokens`."""
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }


def output_usage(output: int, thinking: int) -> dict[str, Any]:
    return {"output_tokens": output, "output_tokens_details": {"thinking_tokens": thinking}}
