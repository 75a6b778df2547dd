"""What is told about a finished call: one JSON line and the Prometheus metrics. No secret, no text of the call."""

from __future__ import annotations

import os
import sys

import orjson
from prometheus_client import Counter, Histogram

from billing.money import usd
from gateway.context import Trace

REQUESTS = Counter("llm_requests_total", "Requests by outcome.", ["operation", "model", "provider", "status"])
DURATION = Histogram(
    "llm_request_duration_seconds",
    "From a request's arrival to the end of its answer.",
    ["operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
FIRST_CONTENT = Histogram(
    "llm_time_to_first_content_seconds",
    "From a streamed request's arrival to the first content of its answer.",
    ["operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
TOKENS = Counter("llm_tokens_total", "Tokens by direction.", ["model", "direction"])
COST = Counter("llm_cost_usd_total", "Charges in USD.", ["model", "provider"])


class Observer:
    """Writes to standard output, which whoever runs the process collects."""

    def __init__(self) -> None:
        self._output = sys.stdout.fileno()

    def finished(self, trace: Trace) -> None:
        """Tell about a request that is over. Silent for what is no call of a tenant's."""
        if not trace.operation:
            return
        elapsed_ms = trace.elapsed_ms()
        model = trace.target.model_name if trace.target else ""
        provider = trace.target.provider_name if trace.target else ""
        REQUESTS.labels(trace.operation, model, provider, str(trace.status)).inc()
        DURATION.labels(trace.operation).observe(elapsed_ms / 1000)
        if trace.first_content_ms is not None:
            FIRST_CONTENT.labels(trace.operation).observe(trace.first_content_ms / 1000)
        if trace.usage is not None:
            TOKENS.labels(model, "input").inc(trace.usage.input_tokens)
            TOKENS.labels(model, "output").inc(trace.usage.output_tokens)
            COST.labels(model, provider).inc((trace.cost_nano_usd or 0) / 1e9)
        self._write_line(trace, elapsed_ms, model=model, provider=provider)

    def _write_line(self, trace: Trace, elapsed_ms: int, *, model: str, provider: str) -> None:
        principal = trace.caller.principal if trace.caller else None
        line = {
            "time": trace.started_at,
            "level": "info",
            "event": "call",
            "request_id": trace.request_id,
            "tenant": principal.tenant_name if principal else None,
            "api_key": principal.key_name if principal else None,
            "operation": trace.operation,
            "requested_model": trace.requested_model[:200],
            "model": model,
            "provider": provider,
            "stream": trace.stream,
            "status": trace.status,
            "error": trace.error_code or None,
            "latency_ms": elapsed_ms,
            "first_content_ms": trace.first_content_ms,
            "attempts": len(trace.attempts),
            "input_tokens": trace.usage.input_tokens if trace.usage else None,
            "output_tokens": trace.usage.output_tokens if trace.usage else None,
            "cost_usd": usd(trace.cost_nano_usd) if trace.cost_nano_usd is not None else None,
        }
        os.write(self._output, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
