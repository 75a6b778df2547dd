"""A platform as a newcomer meets it, and the pictures in the documentation that are taken of it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests import engines, warm
from tests.engines import ROOT
from tests.live import LiveServer

WANTED = os.environ.get("PICTURES") == "1"
"""Whether the pictures are taken anew."""

FOLDER = ROOT / "docs/images"
WIDTH, HEIGHT = 1280, 800
COLOURS = 256
MOST_BYTES = 150_000
HEADER_PIXELS = 80
REDIS_DATABASES = 20
"""So many further on than the worker's own: what other tests left in the cache is not the newcomer's."""

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")


class Installation:
    """A migrated, empty platform with databases of its own."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "manage.log"
        self._folder = folder
        redis, _, _ = os.environ["REDIS_URL"].partition("?")
        number = int(WORKER.removeprefix("gw") or 0) + REDIS_DATABASES
        self._environment = {
            "DATABASE_URL": engines.create_database(f"newcomer_{WORKER or 'main'}"),
            "REDIS_URL": f"{redis}?db={number}",
        }

    def manage(self, command: str, *arguments: str, **environment: str) -> None:
        """Run a command of `manage.py`."""
        self.run("django", command, *arguments, **environment)

    def run(self, module: str, *arguments: str, **environment: str) -> None:
        """Run `python -m MODULE ARGUMENTS` for this platform; fails with what it printed."""
        given = {**os.environ, "DJANGO_SETTINGS_MODULE": "gateway.settings", **self._environment, **environment}
        process = warm.start(module, *arguments, environment=given, log=self._log)
        assert process.wait(timeout=120) == 0, self._log.read_text()[-3000:]

    @contextmanager
    def served(self) -> Iterator[LiveServer]:
        server = LiveServer("uvicorn", self._folder, **self._environment)
        try:
            yield server
        finally:
            server.stop()


def take_picture(page: Page, name: str, *, at: str = "", height: int = HEIGHT) -> None:
    """Put what the window shows into `docs/images/NAME.png`, if pictures are wanted; `at` is scrolled to first."""
    if not WANTED:
        return
    page.set_viewport_size({"width": WIDTH, "height": height})
    if at:
        page.locator(at).first.evaluate("element => element.scrollIntoView({block: 'start'})")
        page.mouse.wheel(0, -HEADER_PIXELS)
    page.mouse.move(0, 0)
    page.evaluate("document.fonts.ready")
    page.wait_for_timeout(300)  # until what fades has faded
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    file = FOLDER / f"{name}.png"
    file.parent.mkdir(exist_ok=True)
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).save(file, optimize=True)
    assert file.stat().st_size < MOST_BYTES, file
