"""The fakes' videos are what the vendors' own SDKs take for such."""

from __future__ import annotations

import pytest
from google import genai
from google.genai import types
from openai import OpenAI

from tests.fakes.google_server import FakeGoogle
from tests.fakes.openai_server import FakeOpenAI

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
"""OpenAI's own has ended; servers that speak its protocol have not."""


def test_openais_sdk_makes_and_fetches_a_video() -> None:
    with FakeOpenAI() as fake, OpenAI(base_url=fake.base_url, api_key=fake.api_key, max_retries=0) as sdk:
        made = sdk.videos.create_and_poll(model="sora-2", prompt="a cat", seconds="4", poll_interval_ms=10)
        assert (made.status, made.seconds) == ("completed", "4")
        assert sdk.videos.download_content(made.id).read()[4:8] == b"ftyp"
        failed = sdk.videos.create_and_poll(model="sora-2", prompt="fail soon", poll_interval_ms=10)
        assert failed.status == "failed" and failed.error is not None
        assert sdk.videos.delete(sdk.videos.create(model="sora-2", prompt="never").id).deleted


def test_googles_sdk_begins_and_follows_an_operation() -> None:
    """The SDK of November 2026 begins one on the enterprise platform only, and follows it on both."""
    with FakeGoogle() as fake:
        options = types.HttpOptions(base_url=fake.base_url)
        with genai.Client(vertexai=True, api_key=fake.api_key, http_options=options) as begins:
            begun = begins.models.generate_videos(
                model="veo-3.1-generate-001",
                source=types.GenerateVideosSource(prompt="soon a cat"),
                config=types.GenerateVideosConfig(duration_seconds=8, aspect_ratio="16:9"),
            )
        assert begun.name is not None
        with genai.Client(api_key=fake.api_key, http_options=options) as follows:
            done = follows.operations.get(types.GenerateVideosOperation(name=begun.name))
            assert done.done and done.response is not None and done.response.generated_videos
            video = done.response.generated_videos[0].video
            assert video is not None and video.uri is not None and ":download" in video.uri
