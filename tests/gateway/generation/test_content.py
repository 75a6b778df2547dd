"""Pictures, sound, films and documents in a chat: each vendor gets them in its own form (S1.4, S1.8, S1.13)."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest

from billing.models import Attempt
from providers.mock.documents import sample_pdf
from providers.mock.films import sample_mp4
from tests import factories
from tests.fakes.openai.media import PNG
from tests.fakes.test_openai_media import wav
from tests.gateway.generation.studio import OWN_ORIGIN, Studio
from tests.live import LiveServer

PDF = sample_pdf("What a document says")
FILM = sample_mp4(32, 32, seconds=2, source="film")
SOUND = wav(1)
MODELS = {"openai": "gpt-5.2", "google": "gemini-3-pro", "anthropic": "claude-opus-4-7"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(sdk: Any, model: str, part: dict[str, Any], *, stream: bool = False) -> str:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "look"}, part]}]
    answer = sdk.chat.completions.create(model=model, messages=messages, max_tokens=50, stream=stream)
    if not stream:
        return answer.choices[0].message.content or ""
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)


def sent(studio: Studio, vendor: str) -> dict[str, Any]:
    """The part that is no text, as the vendor got it."""
    body = getattr(studio, vendor).records[-1].body
    content = body["contents"][0]["parts"] if vendor == "google" else body["messages"][0]["content"]
    found: dict[str, Any] = content[1]
    return found


def in_the_words_of(vendor: str, kind: str, *, data: bytes, mime: str) -> dict[str, Any]:
    """What each vendor wants."""
    url = f"data:{mime};base64,{b64(data)}"
    if vendor == "google":
        return {"inlineData": {"mimeType": mime, "data": b64(data)}}
    if vendor == "anthropic":
        name = "image" if kind == "image_url" else "document"
        return {"type": name, "source": {"type": "base64", "media_type": mime, "data": b64(data)}}
    return {
        "image_url": {"type": "image_url", "image_url": {"url": url}},
        "input_audio": {"type": "input_audio", "input_audio": {"data": b64(data), "format": "wav"}},
        "file": {"type": "file", "file": {"file_data": url, "filename": "file.pdf"}},
    }[kind]


KINDS = [("image_url", PNG, "image/png"), ("input_audio", SOUND, "audio/wav"), ("file", PDF, "application/pdf")]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("kind", "data", "mime"), KINDS, ids=["picture", "sound", "document"])
@pytest.mark.parametrize("vendor", ["openai", "google", "anthropic"])
def test_an_own_file(
    studio: Studio, gallery: LiveServer, vendor: str, kind: str, data: bytes, mime: str, stream: bool
) -> None:
    if vendor == "anthropic" and kind == "input_audio":
        pytest.skip("it hears nothing; see below")
    sdk = studio.sdk(gallery)
    file_id = studio.keep(data, mime=mime)
    given = (
        {"url": f"{OWN_ORIGIN}/v1/files/{file_id}/content?exp=1&sig=x"} if kind == "image_url" else {"file_id": file_id}
    )
    assert ask(sdk, MODELS[vendor], {"type": kind, kind: given}, stream=stream)
    part = sent(studio, vendor)
    part.pop("title", None)
    assert part == in_the_words_of(vendor, kind, data=data, mime=mime)


def test_a_film(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    file_id = studio.keep(FILM, mime="video/mp4")
    film = {"type": "video_url", "video_url": {"url": f"{OWN_ORIGIN}/v1/files/{file_id}/content"}}
    for stream in (False, True):
        assert ask(sdk, "gemini-3-pro", film, stream=stream)
        assert sent(studio, "google") == {"inlineData": {"mimeType": "video/mp4", "data": b64(FILM)}}
    assert "I also got 1 video" in ask(sdk, "mock-chat", film)


def test_a_public_address_goes_as_it_is_to_who_takes_it(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    url = "https://pictures.example.com/a.png"
    for vendor in MODELS:
        assert ask(sdk, MODELS[vendor], {"type": "image_url", "image_url": {"url": url}})
    assert sent(studio, "openai")["image_url"]["url"] == url
    assert sent(studio, "google") == {"fileData": {"fileUri": url, "mimeType": "image/png"}}
    assert sent(studio, "anthropic")["source"] == {"type": "url", "url": url}
    assert (
        Attempt.objects.filter(tenant=studio.tenant, model_name="gpt-5.2").order_by("-created_at")[0].reserved_nano_usd
        >= 40_000 * 1_000
    ), "a picture nobody has seen is held for at its dearest"


def test_a_public_address_is_fetched_for_who_does_not(studio: Studio, gallery: LiveServer, web: str) -> None:
    sdk = studio.sdk(gallery)
    assert ask(sdk, "gpt-5.2", {"type": "input_audio", "input_audio": {"url": f"{web}/a.wav"}})
    assert sent(studio, "openai")["input_audio"] == {"data": b64(SOUND), "format": "wav"}
    for url in ("https://127.0.0.1/a.wav", "http://169.254.169.254/latest", f"{web}/nothing"):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(sdk, "gpt-5.2", {"type": "input_audio", "input_audio": {"url": url}})
        assert refused.value.param == "messages[0].content[1].input_audio"
    assert len(studio.openai.records) == 1
    studio.charge("gpt-5.2")


def test_what_a_provider_cannot_take_is_said_before_it_is_asked(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    sound = {"type": "input_audio", "input_audio": {"data": b64(SOUND), "format": "wav"}}
    with pytest.raises(openai.BadRequestError) as refused:
        ask(sdk, "claude-opus-4-7", sound)
    assert refused.value.code == "capability_not_supported" and "audio" in str(refused.value)
    assert studio.anthropic.records == []


def test_files_that_are_not_there_for_this(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    foreign = studio.keep(PDF, mime="application/pdf", tenant=factories.make_tenant())
    picture = studio.keep(PNG, mime="image/png")
    vendors_own = "file-abc123"  # the account at the vendor is shared by all tenants
    for file_id, code in ((foreign, "file_not_found"), (vendors_own, "file_not_found"), (picture, "unsupported_media")):
        with pytest.raises(openai.APIStatusError) as refused:
            ask(sdk, "gpt-5.2", {"type": "file", "file": {"file_id": file_id}})
        assert refused.value.code == code
    with pytest.raises(openai.BadRequestError) as nothing:
        ask(sdk, "gpt-5.2", {"type": "image_url", "image_url": {}})
    assert nothing.value.param == "messages[0].content[1].image_url.url"
    assert studio.openai.records == []


def test_pages_are_counted(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    said = ask(sdk, "gpt-5.2", {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{b64(PDF)}"}})
    charge = studio.charge("gpt-5.2")
    assert said and charge.units["pages"] == 1
    assert charge.cost_nano_usd == sum(
        charge.units[unit] * rate for unit, rate in (("input", 1_000), ("output", 8_000), ("pages", 1_000_000))
    )
    read = ask(sdk, "mock-chat", {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{b64(PDF)}"}})
    assert "What a document says" in read
