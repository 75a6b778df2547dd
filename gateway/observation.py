"""What is told about a finished call: one JSON line and the Prometheus metrics. No secret, no text of the call."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import orjson
from prometheus_client import Counter, Gauge, Histogram

from billing.money import usd
from gateway.context import Trace
from providers.cli.session import SessionState

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

SESSIONS = Gauge("llm_sessions_total", "CLI sessions by status.", ["status"], multiprocess_mode="livesum")
WAITING = Gauge("llm_sessions_waiting", "Requests that wait for a CLI session.", multiprocess_mode="livesum")
RETRIES = Counter("llm_retries_total", "Attempts at a provider that a request had asked before.", ["provider"])
FAILOVERS = Counter("llm_failovers_total", "Attempts at another provider, by the one that was left.", ["provider"])
HOOK_VERDICTS = Counter("llm_hook_verdicts_total", "What hooks said.", ["hook", "stage", "verdict"])
HOOK_SECONDS = Histogram(
    "llm_hook_duration_seconds",
    "How long hooks took, each time they were asked.",
    ["hook", "stage"],
    buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 20),
)
SHED = Counter("llm_requests_shed_total", "Requests refused because too many were under way.")
CHECKED_ANSWERS = Counter(
    "llm_checked_answers_total", "Answers that were held to a schema, by what became of them.", ["outcome"]
)
CACHE_HITS = Counter("llm_cache_hits_total", "Calls answered from the response cache.", ["operation"])
CACHE_MISSES = Counter("llm_cache_misses_total", "Calls whose answer could have been there.", ["operation"])
CACHE_SKIPS = Counter("llm_cache_skips_total", "Calls kept out of the response cache, by why.", ["reason"])
EMBEDDING_BATCHES = Counter("llm_embedding_batches_total", "Calls to providers that several requests may share.")
EMBEDDINGS_BATCHED = Histogram(
    "llm_embedding_batch_requests", "Requests in one such call.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
NOT_KEPT = Counter("llm_files_not_kept_total", "Generated files that the storage did not take.", ["reason"])
BREAKER = Gauge(
    "llm_breaker_state",
    "Of a deployment: 0 closed, 1 open, 2 half-open.",
    ["deployment"],
    multiprocess_mode="mostrecent",
)


class Observer:
    """Writes to standard output, which whoever runs the process collects."""

    def __init__(self, *, writes_calls: bool = True) -> None:
        self._output = sys.stdout.fileno()
        self._writes_calls = writes_calls

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
        if self._writes_calls:
            self._write_line(trace, elapsed_ms, model=model, provider=provider)

    def sessions(self, standing: Mapping[str, int]) -> None:
        """Tell how the CLI pool stands, as `SessionPool.standing` has it."""
        for state in SessionState:
            SESSIONS.labels(state.value).set(standing[state.value])
        WAITING.set(standing["waiting"])

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
            "cache": trace.cache or None,
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
