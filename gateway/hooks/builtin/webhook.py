"""The customer's own moderation: a signed POST with the texts, answered by a verdict.

It goes to one of the tenant's webhooks, which has the secret, says whether a private network may be called, and can be
switched off. What is sent is texts and which call they are of; the answer is read up to a bound.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from gateway.hooks.base import (
    ALLOWED,
    Edit,
    Hook,
    HookError,
    Resources,
    SettingsError,
    Stage,
    Streams,
    Subject,
    Text,
    Verdict,
    blocked,
    edited,
)
from gateway.notifications.webhooks import sign
from providers.errors import DeadlineError, ProviderError
from providers.transport import Deadlines, Transport, read_all
from providers.types import UpstreamRequest
from tenants.addresses import check_webhook_url
from tenants.models import WebhookEndpoint
from tenants.sealing import SealError
from tenants.webhooks import signing_secrets

DEADLINES = Deadlines(connect=3.0, idle=20.0, total=20.0)
ANSWER_LIMIT_BYTES = 8 * 1024 * 1024


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        msgspec.Meta(
            min_length=1, title="URL", description="The URL of one of the tenant's webhooks, which has the secret."
        ),
    ]
    requests: Annotated[bool, msgspec.Meta(description="Ask about requests.")] = True
    answers: Annotated[bool, msgspec.Meta(description="Ask about answers.")] = True
    answers_as_streams: Annotated[
        Literal["hold", "pass"],
        msgspec.Meta(description="Hold back what a stream says until its end and ask then, or let streams pass."),
    ] = "hold"


class WebhookAnswer(msgspec.Struct, frozen=True):
    """What the other side says. `texts` replaces those that were sent, one for one."""

    verdict: Literal["allow", "block", "modify"]
    reason: str = ""
    texts: list[str] | None = None


_decode = msgspec.json.Decoder(WebhookAnswer).decode


class Webhook(Hook[WebhookSettings]):
    name = "webhook"
    description = "Asks the customer's own service, by a signed POST to one of the tenant's webhooks."
    settings_type = WebhookSettings

    def __init__(self, settings: WebhookSettings, resources: Resources) -> None:
        super().__init__(settings, resources)
        self._endpoint = _endpoint(settings.url, resources)
        wanted = {Stage.BEFORE: settings.requests, Stage.AFTER: settings.answers}
        self.stages = frozenset(stage for stage, is_wanted in wanted.items() if is_wanted)
        if not self.stages:
            raise SettingsError("It asks about neither requests nor answers.", "requests")
        self.streams = Streams(settings.answers_as_streams)

    async def before_call(self, request: Subject) -> Verdict:
        return await self._ask(request, Stage.BEFORE)

    async def after_call(self, answer: Subject) -> Verdict:
        return await self._ask(answer, Stage.AFTER)

    async def _ask(self, subject: Subject, stage: Stage) -> Verdict:
        texts = subject.texts
        if not texts:
            return ALLOWED
        now = dt.datetime.now(dt.UTC)
        form = {
            "type": f"hook.{stage}",
            "timestamp": now.isoformat(),
            "data": {
                **msgspec.to_builtins(subject.call),
                "texts": [{"path": one.path, "text": one.value} for one in texts],
            },
        }
        request = _signed(self._endpoint, msgspec.json.encode(form), now=now)
        return _verdict(await _answer(subject.transport, self._endpoint, request=request), texts)


def _endpoint(url: str, resources: Resources) -> WebhookEndpoint:
    """The tenant's webhook with this URL, if it may be called. Raises `SettingsError`."""
    found = next((endpoint for endpoint in resources.webhooks if endpoint.url == url), None)
    if found is None:
        raise SettingsError(
            "None of the tenant's webhooks has this URL: make one first, for the event hook.moderation.", "url"
        )
    if not found.enabled:
        raise SettingsError("The webhook with this URL is switched off.", "url")
    if refusal := check_webhook_url(found.url, allow_private_network=found.allow_private_network):
        raise SettingsError(f"The URL may not be called. {refusal}", "url")
    return found


def _signed(endpoint: WebhookEndpoint, body: bytes, *, now: dt.datetime) -> UpstreamRequest:
    message_id, timestamp = str(uuid.uuid4()), int(now.timestamp())
    try:
        secrets = signing_secrets(endpoint, now)
    except SealError as error:
        raise HookError(f"The webhook's secret {error}") from error
    headers = {
        "content-type": "application/json",
        "user-agent": "Bursar",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, message_id=message_id, timestamp=timestamp, body=body),
    }
    return UpstreamRequest(url=endpoint.url, headers=headers, body=body)


async def _answer(transport: Transport, endpoint: WebhookEndpoint, *, request: UpstreamRequest) -> WebhookAnswer:
    """What it says. Raises `HookError` for anything but an answer of the right form."""
    try:
        response = await transport.send(
            request, deadlines=DEADLINES, allow_private_network=endpoint.allow_private_network
        )
        try:
            if response.status != 200:
                raise HookError(f"The webhook answered {response.status}.")
            body = await read_all(response, limit_bytes=ANSWER_LIMIT_BYTES)
        finally:
            response.close()
    except DeadlineError as error:
        raise HookError(f"The webhook gave no answer in time ({error.deadline}).") from error
    except ProviderError as error:  # its words may have the address, which may be a secret
        raise HookError("The webhook cannot be reached, or broke off.") from error
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HookError('The webhook did not answer with a verdict such as {"verdict": "allow"}.') from error


def _verdict(answer: WebhookAnswer, texts: Sequence[Text]) -> Verdict:
    if answer.verdict == "block":
        return blocked(answer.reason)
    if answer.verdict == "allow":
        return ALLOWED
    if answer.texts is None or len(answer.texts) != len(texts):
        raise HookError(f"The webhook was sent {len(texts)} texts and gave back another number.")
    pairs = enumerate(zip(texts, answer.texts, strict=True))
    return edited(Edit(at, 0, len(text.value), new) for at, (text, new) in pairs if new != text.value)


HOOK = Webhook
