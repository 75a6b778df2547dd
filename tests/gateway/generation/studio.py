"""A tenant with models of every kind of media at the fake vendors, and files of its own."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from django.core.files.storage import storages
from openai import OpenAI

from billing.models import Attempt, Budget, UsageRecord
from billing.money import NANO_PER_USD
from gateway.media.models import MediaObject, MediaSource
from gateway.media.storage import NewFile, keep
from gateway.runtime import Gateway, GatewayConfig
from providers.models import Model
from tenants.models import Tenant
from tests import factories
from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.google_server import FakeGoogle
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import wait_for_models
from tests.live import LiveServer, until

OWN_ORIGIN = "https://files.example.test"
SEES = ("chat", "stream", "vision", "audio", "video", "documents")
PICTURE = ("image_generation", "image_edit")
SPEECH, HEARING = ("speech",), ("transcription",)


class Studio:
    """Names of models are the vendors' own."""

    def __init__(self, fakes: tuple[FakeOpenAI, FakeGoogle, FakeAnthropic], folder: Path) -> None:
        self.openai, self.google, self.anthropic = fakes
        self._folder = folder
        self.tenant: Tenant = factories.make_tenant()
        self.key = factories.make_key(self.tenant)[1]
        self.names: list[str] = []
        self._sdks: dict[str, OpenAI] = {}
        Budget.objects.create(tenant=self.tenant, limit_nano_usd=10_000 * NANO_PER_USD, hard=True)
        vendor = factories.make_provider(self.openai.base_url, secret=self.openai.api_key, kind="openai")
        google = factories.make_provider(self.google.base_url, secret=self.google.api_key, kind="google")
        anthropic = factories.make_provider(self.anthropic.base_url, secret=self.anthropic.api_key, kind="anthropic")
        mock = factories.make_provider("mock://local", kind="mock")
        self._add(vendor, "gpt-image-1", PICTURE, input="5", image_input="10", image_output="40")
        self._add(vendor, "dall-e-3", PICTURE, images="40000")
        self._add(vendor, "gpt-4o-mini-tts", SPEECH, input="0.6", audio_output="12")
        self._add(vendor, "tts-1", SPEECH, characters="15")
        self._add(vendor, "tts-by-seconds", SPEECH, seconds="200")
        self._add(vendor, "whisper-1", HEARING, seconds="100")
        self._add(vendor, "gpt-4o-transcribe", HEARING, input="2.5", audio_input="6", output="10")
        self._add(vendor, "gpt-5.2", SEES, input="1", output="8", pages="1000")
        self._add(google, "gemini-3-pro", (*SEES, *HEARING), input="2", output="12")
        self._add(google, "gemini-3-pro-image", (*SEES, *PICTURE), input="2", output="12", image_output="120")
        self._add(google, "gemini-3-tts", SPEECH, input="1", audio_output="20")
        self._add(
            anthropic, "claude-opus-4-7", ("chat", "stream", "vision", "documents", "audio"), input="5", output="25"
        )
        for name, capabilities in (("mock-image", PICTURE), ("mock-speech", SPEECH), ("mock-transcribe", HEARING)):
            self._add(mock, name, capabilities, input="1", output="1")
        self._add(mock, "mock-chat", (*SEES, "image_generation"), input="1", output="1")
        self._add(mock, factories.unique("newest"), ("chat",), input="1", output="1")  # no earlier studio had it

    def _add(self, provider: Any, name: str, capabilities: tuple[str, ...], **prices: str) -> None:
        model: Model = factories.make_model(provider, name=name, capabilities=capabilities, prices=prices)
        factories.approve(self.tenant, model)
        self.names.append(name)

    def reset(self) -> None:
        for fake in (self.openai, self.google, self.anthropic):
            fake.reset()

    def sdk(self, server: LiveServer) -> OpenAI:
        """The SDK with the tenant's key, once the server knows every model."""
        if server.base_url not in self._sdks:
            wait_for_models(server, self.key, *self.names)
            self._sdks[server.base_url] = OpenAI(base_url=server.base_url, api_key=self.key, max_retries=0)
        return self._sdks[server.base_url]

    def close(self) -> None:
        """Close the SDKs' connections."""
        for sdk in self._sdks.values():
            sdk.close()

    def charge(self, model: str) -> UsageRecord:
        """The newest charge of a model, once every attempt has ended."""
        found = UsageRecord.objects.filter(tenant=self.tenant, model_name=model)
        until(lambda: not Attempt.objects.filter(tenant=self.tenant, state="open").exists(), what="the ends")
        record: UsageRecord = until(lambda: found.order_by("-created_at", "-attempt_id").first(), what="the charge")
        return record

    def held(self, model: str) -> int:
        """What was held for the newest attempt, in nano-USD."""
        return Attempt.objects.filter(tenant=self.tenant, model_name=model).order_by("-created_at")[0].reserved_nano_usd

    def keep(self, content: bytes, *, mime: str, tenant: Tenant | None = None) -> str:
        """The id of a file that is kept for the tenant."""

        async def work() -> str:
            config = GatewayConfig.from_settings()
            media = dataclasses.replace(config.media, spool_dir=self._folder / "spool")
            gateway = Gateway(dataclasses.replace(config, flight_dir=self._folder / "flight", media=media))
            await gateway.start()
            new = NewFile(
                tenant_id=(tenant or self.tenant).pk, purpose="user_data", source=MediaSource.UPLOAD, mime=mime
            )
            try:
                return (await keep(gateway, content, new=new)).id
            finally:
                await gateway.close()

        return asyncio.run(work())


def content_of(file_id: str) -> bytes:
    """What the storage has under an id."""
    with storages["media_gateway"].open(MediaObject.objects.get(pk=file_id).name) as file:
        content: bytes = file.read()
    return content


def file_of(url: str) -> bytes:
    """What the storage has at one of its signed URLs."""
    prefix = f"{OWN_ORIGIN}/v1/files/"
    assert url.startswith(prefix) and "sig=" in url
    return content_of(url.removeprefix(prefix).partition("/")[0])
