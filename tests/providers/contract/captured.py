"""Streams as the vendors send them, byte by byte, one for each decoder."""

from __future__ import annotations

import json
from typing import Any


def _openai(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


def _named(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event, ensure_ascii=False).encode())
        for event in events
    )


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _gemini(*parts: dict[str, Any], usage: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}
    counted = usage or {"promptTokenCount": 20, "totalTokenCount": 20}
    return {"candidates": [candidate], "usageMetadata": counted, "modelVersion": "gemini-3-pro", "responseId": "r1"}


OPENAI = _openai(
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"content": "Grüße, "}),
    _chunk({"content": "Wëlt 🌍"}),
    _chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]}),
    _chunk({}, "tool_calls"),
    {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
)

ANTHROPIC = _named(
    {"type": "message_start", "message": {"id": "msg_1", "model": "claude-opus-4-7", "usage": {
        "input_tokens": 10, "cache_creation_input_tokens": 9, "cache_read_input_tokens": 5, "output_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 7}}}},
    *_block(0, {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Hm, "}, {"type": "thinking_delta", "thinking": "ü 🌍"},
            {"type": "signature_delta", "signature": "c2ln"}),
    {"type": "ping"},
    *_block(1, {"type": "redacted_thinking", "data": "b3BhcXVl"}),
    *_block(2, {"type": "text", "text": ""},
            {"type": "text_delta", "text": "Grüße\n\n"}, {"type": "text_delta", "text": "🌍 \"q\""}),
    *_block(3, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
            {"type": "input_json_delta", "partial_json": ""}, {"type": "input_json_delta", "partial_json": '{"city"'},
            {"type": "input_json_delta", "partial_json": ': "Zürich"}'}),
    *_block(4, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
            {"type": "input_json_delta", "partial_json": ""}),
    {"type": "from_the_future", "index": 4, "delta": {"type": "new_delta"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
     "usage": {"output_tokens": 42, "output_tokens_details": {"thinking_tokens": 12}}},
    {"type": "message_stop"},
)  # fmt: skip

GOOGLE = b"".join(
    b"data: %b\r\n\r\n" % json.dumps(event, ensure_ascii=False).encode()
    for event in (
        _gemini({"text": "Hm, ü", "thought": True}),
        _gemini({"text": "Grüße\n\n"}, {"text": "🌍 \"q\""}),
        _gemini({"functionCall": {"name": "weather", "args": {"city": "Zürich"}}, "thoughtSignature": "c2ln"}),
        _gemini({"functionCall": {"name": "now", "id": "fc_1"}}),
        _gemini({"text": ""}, finishReason="STOP", usage={
            "promptTokenCount": 20, "cachedContentTokenCount": 5, "candidatesTokenCount": 30, "thoughtsTokenCount": 12,
            "toolUsePromptTokenCount": 4, "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 14}, {"modality": "AUDIO", "tokenCount": 6}]}),
    )
)  # fmt: skip

CLI = b"".join(
    json.dumps({"id": "1-2", **event}, ensure_ascii=False).encode() + b"\n"
    for event in (
        {"type": "delta", "text": "Grüße\n\n"},
        {"type": "from_the_future", "text": "?"},
        {"type": "delta", "text": "🌍 \"q\""},
        {"type": "result", "finish_reason": "stop", "usage": {
            "input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 4}},
    )
)  # fmt: skip

DEEPSEEK = b": keep-alive\n\n: keep-alive\n\n" + _openai(
    _chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
    _chunk({"content": None, "reasoning_content": "Hm, "}),
    _chunk({"content": None, "reasoning_content": "ü 🌍"}),
    _chunk({"content": "Grüße\n\n", "reasoning_content": None}),
    _chunk({"tool_calls": [
        {"index": 0, "id": "call_00_a", "type": "function", "function": {"name": "weather", "arguments": ""}}]}),
    _chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Zürich"}'}}]}),
    _chunk({"content": "", "reasoning_content": None}, "tool_calls"),
    {"id": "c", "choices": [], "usage": {
        "prompt_tokens": 20, "completion_tokens": 42, "total_tokens": 62, "prompt_cache_hit_tokens": 5,
        "prompt_cache_miss_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 12}}},
)  # fmt: skip


def _ollama(message: dict[str, Any], **more: Any) -> bytes:
    answer = {"model": "llama3.2", "created_at": "2026-11-21T12:00:00.1Z", "message": {"role": "assistant"} | message}
    return json.dumps({**answer, "done": False, **more}, ensure_ascii=False).encode() + b"\n"


OLLAMA = b"".join(
    (
        _ollama({"content": "", "thinking": "Hm, "}),
        _ollama({"content": "", "thinking": "ü 🌍"}),
        _ollama({"content": "Grüße\n\n"}),
        _ollama({"content": "🌍 \"q\""}),
        _ollama({"content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Zürich"}}}]}),
        _ollama({"content": "", "tool_calls": [{"id": "call_x", "function": {"name": "now", "arguments": {}}}]}),
        _ollama(
            {"content": ""}, done=True, done_reason="stop", total_duration=500_000_000, load_duration=70_000_000,
            prompt_eval_count=20, prompt_eval_duration=26_000_000, eval_count=42, eval_duration=400_000_000,
        ),
    )
)  # fmt: skip

STREAMS = {
    "openai_compatible": OPENAI,
    "openai": OPENAI,
    "mock": OPENAI,
    "anthropic": ANTHROPIC,
    "google": GOOGLE,
    "cli": CLI,
    "deepseek": DEEPSEEK,
    "ollama": OLLAMA,
}
"""By adapter kind: a new adapter without a stream here fails the suite."""
