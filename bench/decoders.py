"""What reading a stream costs in each adapter, beside the same stream in OpenAI's protocol.

    python -m bench.decoders

Each decoder is fed the 64 pieces of one answer, a read from the network for each, as the gateway feeds it. The figure
is the least of many rounds: the machine's other work can only add to it.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.errors import BenchError
from providers.registry import adapter_for

PIECES = [f"word{number} " for number in range(64)]
ROUNDS = 1000
MOST_TIMES_OPENAI = 1.5
"""How much dearer an adapter may be than `openai_compatible`."""


def _openai() -> list[bytes]:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in PIECES)]
    events = [
        {**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], "usage": None}
        for delta in deltas
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 64, "total_tokens": 74}
    end = [
        {**frame, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}], "usage": None},
        {**frame, "choices": [], "usage": usage},
    ]
    return [*(b"data: %b\n\n" % _json(event) for event in (*events, *end)), b"data: [DONE]\n\n"]


def _anthropic() -> list[bytes]:
    usage = {"input_tokens": 10, "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "model": "m", "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 64}},
        {"type": "message_stop"},
    ]
    return [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _json(event)) for event in events]


def _google() -> list[bytes]:
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 64, "totalTokenCount": 74}
    frame = {"usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}
    events = [
        {"candidates": [{"content": {"role": "model", "parts": [{"text": piece}]}, "index": 0}], **frame}
        for piece in PIECES
    ]
    last = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}
    return [b"data: %b\r\n\r\n" % _json(event) for event in (*events, {"candidates": [last], **frame})]


def _ollama() -> list[bytes]:
    frame = {"model": "m", "created_at": "2026-11-21T12:00:00.123456Z"}
    lines = [{**frame, "message": {"role": "assistant", "content": piece}, "done": False} for piece in PIECES]
    counts = {"prompt_eval_count": 10, "eval_count": 64, "total_duration": 1}
    last = {**frame, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **counts}
    return [_json(line) + b"\n" for line in (*lines, last)]


STREAMS: dict[str, Callable[[], list[bytes]]] = {
    "openai_compatible": _openai,
    "openai": _openai,
    "deepseek": _openai,
    "anthropic": _anthropic,
    "google": _google,
    "ollama": _ollama,
}
"""By adapter kind, the first the yardstick."""


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def least_seconds(rounds: int = ROUNDS) -> dict[str, float]:
    """The least CPU time that one stream of each kind takes to decode. They take turns, so that a busy moment of the
    machine is not one adapter's alone."""
    reads = {kind: stream() for kind, stream in STREAMS.items()}
    least = dict.fromkeys(STREAMS, float("inf"))
    gc.disable()
    try:
        for _ in range(rounds):
            for kind in STREAMS:
                least[kind] = min(least[kind], _decode(kind, reads[kind]))
    finally:
        gc.enable()
    return least


def _decode(kind: str, reads: list[bytes]) -> float:
    adapter = adapter_for(kind)
    started = time.process_time()
    decoder = adapter.decoder()
    for data in reads:
        decoder.feed(data)
    seconds = time.process_time() - started
    if not decoder.finished or decoder.failure is not None:
        raise BenchError(f"The stream of {kind} was not read to its end: {decoder.failure}")
    return seconds


def main() -> int:
    """Print a table; 1 when an adapter costs more than it may."""
    least = least_seconds()
    yardstick = next(iter(least.values()))
    print("| adapter | µs for 64 chunks | times openai_compatible |\n|---|---|---|")
    for kind, seconds in least.items():
        print(f"| `{kind}` | {seconds * 1e6:.0f} | {seconds / yardstick:.2f} |")
    return int(max(least.values()) > MOST_TIMES_OPENAI * yardstick)


if __name__ == "__main__":
    sys.exit(main())
