"""Where events go besides the database: lines of JSON, a signed webhook, an OpenTelemetry collector.

A sink takes a batch of events and keeps nothing. Who feeds it decides what becomes of a batch that it does not take:
audit events wait in their chain (`sending`), usage in memory up to a bound (`usage`).
"""

from __future__ import annotations

import base64
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import orjson

from gateway.notifications.webhooks import sign
from providers.errors import ProviderError
from providers.transport import Deadlines, Transport
from providers.types import UpstreamRequest
from tenants.webhooks import SECRET_PREFIX

DEADLINES = Deadlines(connect=5.0, idle=10.0, total=15.0)
SERVICE = "bursar"

Record = Mapping[str, Any]
"""An event: `time` (ISO 8601), `event`, and whatever else it has, as JSON."""


class SinkError(Exception):
    """A batch was not taken; the text says why, without the address or a secret."""


class Sink(Protocol):
    """Takes batches of records."""

    @property
    def name(self) -> str:
        """As it is called in settings."""

    async def send(self, records: Sequence[Record], *, transport: Transport) -> None:
        """Deliver all of them. Raises `SinkError`; then any number of them may have arrived."""


@dataclass(frozen=True, slots=True)
class JsonLog:
    """One line each on standard output, which whoever runs the process collects."""

    name: str = "json_log"

    async def send(self, records: Sequence[Record], *, transport: Transport) -> None:
        """Write the lines."""
        lines = b"".join(orjson.dumps({"level": "info", **record}) + b"\n" for record in records)
        os.write(sys.stdout.fileno(), lines)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A POST of `{"type", "timestamp", "data": [records]}`, signed by the Standard Webhooks specification."""

    url: str
    secret: str
    type: str
    name: str = "webhook"

    async def send(self, records: Sequence[Record], *, transport: Transport) -> None:
        """Post the batch."""
        now, message_id = int(time.time()), f"msg_{uuid4().hex}"
        body = orjson.dumps({"type": self.type, "timestamp": now, "data": list(records)})
        headers = {
            "content-type": "application/json",
            "user-agent": "Bursar",
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign([_as_signing(self.secret)], message_id=message_id, timestamp=now, body=body),
        }
        await _post(UpstreamRequest(url=self.url, headers=headers, body=body), transport=transport)


@dataclass(frozen=True, slots=True)
class OpenTelemetry:
    """Log records by OTLP over HTTP with JSON, which every collector takes. It needs no library."""

    url: str
    token: str
    scope: str
    name: str = "opentelemetry"

    async def send(self, records: Sequence[Record], *, transport: Transport) -> None:
        """Post the batch to the collector's /v1/logs."""
        scope_logs = {"scope": {"name": self.scope}, "logRecords": [_log_record(record) for record in records]}
        resource = {"attributes": [_attribute("service.name", SERVICE)]}
        body = orjson.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [scope_logs]}]})
        headers = {"content-type": "application/json", "user-agent": "Bursar"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        await _post(UpstreamRequest(url=f"{self.url}/v1/logs", headers=headers, body=body), transport=transport)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    """Where the sinks that leave the process go; `gateway.settings` documents each."""

    webhook_url: str = ""
    webhook_secret: str = ""
    otlp_url: str = ""
    otlp_token: str = ""


NOWHERE = SinkSettings()


def build_sinks(names: Sequence[str], where: SinkSettings, *, of: str) -> list[Sink]:
    """The sinks of these names for `audit` or `usage`; the database and the `call` line are nobody's to build."""
    makers: dict[str, Sink] = {
        "webhook": Webhook(where.webhook_url, where.webhook_secret, type=f"{of}.batch"),
        "opentelemetry": OpenTelemetry(where.otlp_url, where.otlp_token, scope=f"bursar.{of}"),
    }
    if of == "audit":
        makers["json_log"] = JsonLog()
    return [makers[name] for name in names if name in makers]


async def _post(request: UpstreamRequest, *, transport: Transport) -> None:
    """The operator chose the address, so it may be a private one."""
    try:
        response = await transport.send(request, deadlines=DEADLINES, allow_private_network=True)
    except ProviderError as error:
        raise SinkError(f"It cannot be reached: {type(error.__cause__ or error).__name__}.") from error
    response.close()
    if not 200 <= response.status < 300:
        raise SinkError(f"It answered {response.status}.")


def _as_signing(secret: str) -> str:
    """A secret of any form as the specification's signers take it."""
    if secret.startswith(SECRET_PREFIX):
        return secret
    return SECRET_PREFIX + base64.b64encode(secret.encode()).decode()


def _log_record(record: Record) -> dict[str, Any]:
    nanoseconds = str(record["time_unix_us"] * 1000)
    rest = {name: value for name, value in record.items() if name not in ("time", "time_unix_us", "event")}
    return {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": 9,
        "severityText": "INFO",
        "eventName": record["event"],
        "body": {"stringValue": record["event"]},
        "attributes": [_attribute(f"bursar.{name}", value) for name, value in rest.items() if value is not None],
    }


def _attribute(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": name, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": name, "value": {"intValue": str(value)}}
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return {"key": name, "value": {"stringValue": text}}
