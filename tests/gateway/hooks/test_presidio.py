"""The hook that needs an extra: what it does with it, by a stand-in of Presidio's, and what is said without it."""

from __future__ import annotations

import asyncio
import io
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command

from gateway.hooks.base import Resources, SettingsError
from gateway.hooks.builtin import presidio
from gateway.hooks.builtin.presidio import ABSENT, Presidio, PresidioSettings
from gateway.hooks.registry import HOOKS, build
from gateway.hooks.selectors import BoundHook
from tests.gateway.hooks.asking import Asked, bound, chunk, said


class Analyser:
    """Finds Ada and Oslo, as Presidio tells of them."""

    threads: list[str] = []

    def __init__(self, *, supported_languages: list[str]) -> None:
        if supported_languages == ["xx"]:
            raise SystemExit(1)

    def analyze(self, *, text: str, language: str, entities: list[str], score_threshold: float) -> list[Any]:
        Analyser.threads.append(threading.current_thread().name)
        words = (("Ada", "PERSON", 0.85), ("Oslo", "LOCATION", 0.6), ("May", "PERSON", 0.3))
        return [
            SimpleNamespace(start=text.index(word), end=text.index(word) + len(word), entity_type=kind, score=score)
            for word, kind, score in words
            if word in text and kind in entities and score >= score_threshold
        ]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presidio, "presidio_analyzer", SimpleNamespace(AnalyzerEngine=Analyser))
    presidio._engine.cache_clear()


def made(**settings: Any) -> BoundHook:
    return bound(Presidio(PresidioSettings(**settings), Resources()))


async def test_people_and_places_stay_inside_and_come_back() -> None:
    asked = Asked(made())
    before = await asked.hooks.texts_before(["Ada lives in Oslo, since May", "Ada!"])
    assert before == ["[PERSON_1] lives in [LOCATION_1], since May", "[PERSON_1]!"]
    assert await asked.hooks.texts_after(["So [PERSON_1] likes [LOCATION_1]."]) == ["So Ada likes Oslo."]
    pieces = [chunk({"content": "Hi [PER"}), chunk({"content": "SON_1]!"}), chunk({}, finish="stop")]
    assert said(await asked.stream(pieces)) == "Hi Ada!"
    assert asyncio.get_running_loop() and threading.current_thread().name not in Analyser.threads, "the loop goes on"


async def test_what_is_set() -> None:
    assert await Asked(made(entities=["PERSON"], min_score_percent=20)).hooks.texts_before(["May in Oslo"]) == [
        "[PERSON_1] in Oslo"
    ]
    asked = Asked(made(reinsert=False))
    await asked.hooks.texts_before(["Ada"])
    assert await asked.hooks.texts_after(["[PERSON_1]"]) == ["[PERSON_1]"]


async def test_a_language_that_is_not_there_is_a_failure() -> None:
    asked = Asked(bound(Presidio(PresidioSettings(language="xx"), Resources()), fail_open=True))
    assert await asked.hooks.texts_before(["Ada"]) == ["Ada"]
    assert asked.notes[0].problem == "Presidio cannot read texts in 'xx': is its model installed?"


@pytest.mark.skipif("presidio" in HOOKS, reason="it is installed here")
def test_without_it_the_remedy_is_told() -> None:
    with pytest.raises(SettingsError, match="pip install"):
        build("presidio", {}, resources=Resources())
    out = io.StringIO()
    call_command("list_plugins", stdout=out)
    assert f"absent   {'presidio':20} {ABSENT}" in out.getvalue()
