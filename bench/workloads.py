"""What is asked: the requests of the benchmark, and what their figures should reach.

The model names are the mock provider's; they set the pace of its answer (mock_request.c).
"""

from collections.abc import Mapping
from dataclasses import dataclass

EMBEDDING_MODEL = "mock-embed"
_CHAT_PATH = "/v1/chat/completions"
_CHAT = {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant. Answer briefly and plainly."},
        {
            "role": "user",
            "content": "Explain in a few sentences what a gateway between applications and model providers does, "
            "and why somebody would run one.",
        },
    ],
    "max_tokens": 256,
    "temperature": 0.2,
}
_STREAM = {**_CHAT, "stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of request. A stream must bring `content_events` events with text; 0 means a JSON answer."""

    name: str
    title: str
    path: str
    body: Mapping[str, object]
    content_events: int = 0


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(name="chat", title="chat", path=_CHAT_PATH, body={"model": "mock-model", **_CHAT}),
        Workload(
            name="stream",
            title="stream of 64 chunks",
            path=_CHAT_PATH,
            body={"model": "mock-model", **_STREAM},
            content_events=64,
        ),
        Workload(
            name="paced",
            title="the same, 5 ms apart",
            path=_CHAT_PATH,
            body={"model": "mock-i5", **_STREAM},
            content_events=64,
        ),
        Workload(
            name="embeddings",
            title="embeddings",
            path="/v1/embeddings",
            body={"model": EMBEDDING_MODEL, "input": "hello embedding world"},
        ),
    )
}
HELD_STREAM = Workload(
    name="hold",
    title="held streams",
    path=_CHAT_PATH,
    body={"model": "mock-t500-i1000-n30", **_STREAM},
    content_events=30,
)
HELD_STREAM_SECONDS = 30.5
MODELS = ("mock-model", "mock-i5", "mock-t500-i1000-n30", EMBEDDING_MODEL)

CPU_RATIO_TARGETS = {"chat": 6.0, "stream": 5.0, "paced": 2.2, "embeddings": 6.0}
ADDED_LATENCY_TARGET_MS = 1.5
HELD_STREAMS_TARGET = 2000
KIB_PER_HELD_STREAM_TARGET = 80.0
