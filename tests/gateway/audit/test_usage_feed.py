"""Usage to its sinks: every call that used something, once, and a bound on what waits."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.audit import usage
from gateway.audit.sinks import Record, SinkError, SinkSettings, build_sinks
from gateway.audit.usage import UsageFeed
from gateway.context import Trace
from providers.transport import Transport
from providers.types import Usage


class Listener:
    """A sink that keeps what it is sent, and refuses while it is told to."""

    name = "listener"

    def __init__(self) -> None:
        self.heard: list[Record] = []
        self.refuses = False

    async def send(self, records: Sequence[Record], *, transport: Transport) -> None:
        if self.refuses:
            raise SinkError("It is away.")
        self.heard += records


def trace_of(**fields: Any) -> Trace:
    principal = SimpleNamespace(tenant_name="acme", project_name="", key_name="ci")
    trace = Trace("req_1", operation="chat", caller=SimpleNamespace(principal=principal))  # type: ignore[arg-type]
    trace.usage = Usage(units={"input": 3}, input_tokens=3, output_tokens=4, raw=b"{}")
    trace.cost_nano_usd = 5
    for name, value in fields.items():
        setattr(trace, name, value)
    return trace


async def test_what_waits_is_sent_at_the_end() -> None:
    listener, transport = Listener(), Transport()
    feed = UsageFeed([listener], transport)
    feed.start()
    feed.add(trace_of())
    feed.add(trace_of(usage=None))
    feed.add(trace_of(caller=None))
    await feed.close()
    await transport.close()
    (record,) = listener.heard
    assert (record["tenant"], record["input_tokens"], record["cost_usd"]) == ("acme", 3, "0.000000005")


async def test_a_sink_that_is_away_loses_only_what_is_beyond_the_bound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(usage, "KEPT", 3)
    listener, transport = Listener(), Transport()
    listener.refuses = True
    feed = UsageFeed([listener], transport)
    feed.start()
    for _ in range(5):
        feed.add(trace_of())
    await feed.close()
    await transport.close()
    assert [record.records for record in caplog.records if record.message == "usage.records_dropped"] == [5]
    assert [record.reason for record in caplog.records if record.message == "usage.sink_failed"] == ["It is away."]


def test_which_sinks_are_built() -> None:
    where = SinkSettings(webhook_url="https://a", webhook_secret="s", otlp_url="https://b")
    named = ("database", "json_log", "webhook", "opentelemetry")
    assert [sink.name for sink in build_sinks(named, where, of="usage")] == ["webhook", "opentelemetry"]
    assert {sink.name for sink in build_sinks(named, where, of="audit")} == set(named) - {"database"}
    assert build_sinks((), where, of="audit") == []
