"""The voice playground in a real browser: a WAV file and a typed line, against the offline mock."""

from __future__ import annotations

import io
import math
import os
import struct
import wave
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from gateway.realtime.models import RealtimeSession
from tenants.models import Operator, Role
from tests.admin.conftest import PASSWORD
from tests.admin.test_browser import browsing, chromium, log_in
from tests.gateway.realtime.conftest import Speaker, make_speaker
from tests.live import LiveServer

__all__ = ["chromium"]

PICTURES = os.environ.get("PLAYGROUND_PICTURES", "")


def a_wav_file() -> bytes:
    """A second of somebody humming, at a rate that is not the model's."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        waves = (int(9000 * math.sin(at / 8)) for at in range(16_000))
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in waves))
    return file.getvalue()


def picture(page: Page, name: str) -> None:
    if not PICTURES:
        return
    for width in (1280, 390):
        for theme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 1100})
            page.evaluate(f"document.documentElement.classList.toggle('dark', {str(theme == 'dark').lower()})")
            page.screenshot(path=Path(PICTURES) / f"{name}-{width}-{theme}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})


def test_an_operator_talks_to_the_mock(committed: None, chromium: str, uvicorn: LiveServer) -> None:
    Operator.objects.create_user("ada", password=PASSWORD, role=Role.OPERATOR, is_staff=True)
    speaker: Speaker = make_speaker("mock://local", kind="mock").known_to(uvicorn)
    offered: list[str] = []
    sent: list[Any] = []
    with browsing(chromium) as page:
        page.on("websocket", lambda socket: "/v1/" in socket.url and offered.append(socket.url))
        page.on("request", lambda request: sent.append((request.url, request.post_data)))
        log_in(page, uvicorn.origin)
        page.goto(f"{uvicorn.origin}/admin/playground/voice/?tenant={speaker.tenant.pk}")
        page.click("#voice-start")
        page.wait_for_selector("#voice-state:text('listening')")
        page.set_input_files("#voice-wav", {"name": "hum.wav", "mimeType": "audio/wav", "buffer": a_wav_file()})
        page.wait_for_selector("#voice-log .model:has-text('seconds of sound')")
        page.wait_for_selector("#voice-latency:has-text('ms')")
        page.wait_for_selector("#voice-responses:text('1')")
        page.fill("#voice-text", "How are you?")
        page.click("#voice-send")
        page.wait_for_selector("#voice-log .model:has-text('How are you?')")
        page.wait_for_selector("#voice-responses:text('2')")
        assert float(page.text_content("#voice-cost") or 0) > 0
        picture(page, "voice")
        page.click("#voice-stop")
        page.wait_for_selector("text=The session has ended (client_close)")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        content = page.content()
    (row,) = RealtimeSession.objects.filter(tenant=speaker.tenant)
    assert (row.reason, row.user, row.cost_nano_usd) == ("client_close", "ada", speaker.cost())
    assert speaker.key not in content + str(sent) + str(offered) and len(offered) == 1
