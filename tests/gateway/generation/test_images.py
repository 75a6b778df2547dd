"""Pictures made and changed, by the official SDK (S1.5)."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest

from gateway.media.models import MediaObject, TenantStorage
from tests import factories
from tests.fakes.openai.media import PNG
from tests.gateway.generation.studio import Studio, content_of, file_of
from tests.live import LiveServer

RED: Any = {"prompt": "a red square"}


def test_made_pictures_are_kept_and_told_as_urls(studio: Studio, gallery: LiveServer) -> None:
    made = studio.sdk(gallery).images.generate(model="gpt-image-1", n=2, **RED)
    assert made.data is not None and len(made.data) == 2
    for picture in made.data:
        assert file_of(picture.url or "") == PNG and picture.b64_json is None
    charge = studio.charge("gpt-image-1")
    assert charge.units == {"input": 3, "image_output": 200, "images": 2}
    assert (charge.cost_nano_usd, charge.usage_source) == (3 * 5_000 + 200 * 40_000, "provider_final")
    assert studio.held("gpt-image-1") >= charge.cost_nano_usd
    (record,) = studio.openai.records
    assert "response_format" not in record.body


def test_base64_when_asked_and_a_price_for_each(studio: Studio, gallery: LiveServer) -> None:
    made = studio.sdk(gallery).images.generate(model="dall-e-3", response_format="b64_json", **RED)
    assert made.data is not None and base64.b64decode(made.data[0].b64_json or "") == PNG
    assert made.data[0].url is None and content_of(made.data[0].file_id) == PNG  # type: ignore[attr-defined]
    charge = studio.charge("dall-e-3")
    assert (charge.units["images"], charge.cost_nano_usd, charge.usage_source) == (1, 40_000_000, "local_count")


def test_a_stream(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    events: list[Any] = list(sdk.images.generate(model="gpt-image-1", stream=True, partial_images=2, **RED))
    kinds = [event.type.partition(".")[2] for event in events]
    assert kinds == ["partial_image", "partial_image", "completed"]
    assert base64.b64decode(events[-1].b64_json) == PNG and content_of(events[-1].file_id) == PNG
    assert studio.charge("gpt-image-1").units == {"input": 3, "image_output": 100, "images": 1}


def test_edits_of_an_upload_and_of_a_file(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    edited = sdk.images.edit(model="gpt-image-1", image=[("a.png", PNG), ("b.png", PNG)], **RED)
    assert edited.data is not None and file_of(edited.data[0].url or "") == PNG
    assert studio.charge("gpt-image-1").units == {"input": 3, "image_input": 200, "image_output": 100, "images": 1}
    file_id = studio.keep(PNG, mime="image/png")
    with gallery.client(studio.key) as client:
        body = {"model": "gpt-image-1", "images": [{"file_id": file_id}], **RED}
        assert client.post("/images/edits", json=body).status_code == 200
        outsider = studio.keep(PNG, mime="image/png", tenant=factories.make_tenant())
        refused = client.post("/images/edits", json={**body, "images": [{"file_id": outsider}]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "file_not_found")
    assert [len(record.body["image"]) for record in studio.openai.records] == [2, 1]
    assert studio.openai.records[-1].body["image"][0][2] == PNG


def test_gemini_paints_in_the_same_words(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    made = sdk.images.generate(model="gemini-3-pro-image", size="1536x1024", **RED)
    assert made.data is not None and file_of(made.data[0].url or "") == PNG
    assert made.usage is not None and made.usage.output_tokens == 100
    charge = studio.charge("gemini-3-pro-image")
    assert charge.units == {"input": 3, "image_output": 100, "images": 1}
    events: list[Any] = list(sdk.images.generate(model="gemini-3-pro-image", stream=True, **RED))
    assert [event.type for event in events] == ["image_generation.completed"] and events[0].usage.output_tokens == 100
    assert sdk.images.edit(model="gemini-3-pro-image", image=("a.png", PNG), **RED).data
    first, _, edit = studio.google.records
    assert first.body["generationConfig"]["imageConfig"] == {"aspectRatio": "3:2"}
    assert edit.body["contents"][0]["parts"][0]["inlineData"]["mimeType"] == "image/png"
    with pytest.raises(openai.BadRequestError, match="no mask"):
        sdk.images.edit(model="gemini-3-pro-image", image=("a.png", PNG), mask=("m.png", PNG), **RED)
    assert len(studio.google.records) == 3


@pytest.mark.parametrize("model", ["gemini-3-pro-image", "mock-chat"])
def test_a_chat_paints(studio: Studio, gallery: LiveServer, model: str) -> None:
    sdk = studio.sdk(gallery)
    ask: Any = {"model": model, "messages": [{"role": "user", "content": "a red square"}]}
    ask["extra_body"] = {"modalities": ["text", "image"]}
    whole: Any = sdk.chat.completions.create(**ask)
    painted = file_of(whole.choices[0].message.images[0]["image_url"]["url"])
    chunks: list[Any] = list(sdk.chat.completions.create(stream=True, **ask))
    shown = [image for chunk in chunks for choice in chunk.choices for image in getattr(choice.delta, "images", ())]
    assert [file_of(image["image_url"]["url"]) for image in shown] == [painted]
    assert studio.charge(model).units["images"] == 1
    inline: Any = sdk.chat.completions.create(**ask, extra_headers={"X-Gateway-Media": "inline"})
    assert inline.choices[0].message.images[0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_the_mock_paints(studio: Studio, gallery: LiveServer) -> None:
    made = studio.sdk(gallery).images.generate(model="mock-image", size="64x32", **RED)
    assert made.data is not None
    kept = MediaObject.objects.get(pk=made.data[0].file_id)  # type: ignore[attr-defined]
    assert (kept.mime, kept.width, kept.height, kept.source) == ("image/png", 64, 32, "generated")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/images/generations", {"model": "gpt-image-1"}, "prompt"),
        ("/images/generations", {"model": "gpt-image-1", "prompt": "x", "n": 11}, "n"),
        ("/images/edits", {"model": "gpt-image-1", "prompt": "x"}, "image"),
        ("/images/edits", {"model": "gpt-image-1", "prompt": "x", "image": "https://127.0.0.1/a.png"}, "image"),
        ("/images/generations", {"model": "gpt-5.2", "prompt": "x"}, "model"),
    ],
)
def test_what_is_refused_before_anything_is_spent(
    studio: Studio, gallery: LiveServer, path: str, body: dict[str, Any], param: str
) -> None:
    studio.sdk(gallery)
    with gallery.client(studio.key) as client:
        refused = client.post(path, json=body)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == param
    assert studio.openai.records == []


def not_kept(server: LiveServer) -> float:
    """So many files by the server's own count, which goes on from test to test."""
    name = 'llm_files_not_kept_total{reason="storage_unavailable"} '
    counts = [line.removeprefix(name) for line in server.get("/metrics").text.split("\n") if line.startswith(name)]
    return float(counts[0]) if counts else 0


def test_what_was_paid_for_comes_inline_without_storage(studio: Studio, without_storage: LiveServer) -> None:
    before = not_kept(without_storage)
    made = studio.sdk(without_storage).images.generate(model="gpt-image-1", **RED)
    assert made.data is not None and base64.b64decode(made.data[0].b64_json or "") == PNG
    assert studio.charge("gpt-image-1").usage_source == "provider_final"
    assert '"media.not_kept"' in without_storage.log.read_text()
    assert not_kept(without_storage) == before + 1


def test_a_full_or_closed_storage_loses_nothing(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    for limits in ({"quota_bytes": 1}, {"generated_kept_hours": 0}):
        TenantStorage.objects.update_or_create(
            tenant=studio.tenant, defaults={"quota_bytes": None, "generated_kept_hours": None} | limits
        )
        made = sdk.images.generate(model="gpt-image-1", **RED)
        assert made.data is not None and base64.b64decode(made.data[0].b64_json or "") == PNG
    TenantStorage.objects.filter(tenant=studio.tenant).update(quota_bytes=None, generated_kept_hours=None)
