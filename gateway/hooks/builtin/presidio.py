"""Personal data by Microsoft Presidio: people and places by a language model of their own, where it is installed.

Presidio is an optional extra: it needs half a gigabyte and takes tens of milliseconds for a text.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Annotated, Any

import msgspec

from gateway.hooks.base import HookError, Resources
from gateway.hooks.patterns import Match, joined
from gateway.hooks.placeholders import Placeholders

try:
    import presidio_analyzer
except ImportError:
    presidio_analyzer = None

NAME = "presidio"
ABSENT = 'Presidio is not installed here: "pip install bursar[presidio]", and a model of spaCy for each language.'
Entity = Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z_]{1,18}$")]


class PresidioSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    language: Annotated[
        str, msgspec.Meta(pattern=r"^[a-z]{2}$", description="Of the texts, such as en. Its model must be installed.")
    ] = "en"
    entities: Annotated[
        list[Entity],
        msgspec.Meta(min_length=1, description="What to look for, one in a line, as Presidio calls it."),
    ] = msgspec.field(default_factory=lambda: ["PERSON", "LOCATION"])
    min_score_percent: Annotated[
        int, msgspec.Meta(ge=0, le=100, description="How sure Presidio must be to have something replaced.")
    ] = 50
    reinsert: Annotated[bool, msgspec.Meta(description="Put the values back into the answer.")] = True


class Presidio(Placeholders[PresidioSettings]):
    name = NAME
    description = (
        "Replaces people, places and what else Presidio finds by placeholders before the provider sees them, and puts "
        "them back into the answer."
    )
    settings_type = PresidioSettings

    def __init__(self, settings: PresidioSettings, resources: Resources) -> None:
        super().__init__(settings, resources)
        self.reinsert = settings.reinsert
        self.watch()

    async def found(self, text: str) -> list[Match]:
        return await asyncio.to_thread(self._analysed, text)

    def _analysed(self, text: str) -> list[Match]:
        """In a thread: it computes for as long as the text is."""
        settings = self.settings
        try:
            found = _engine(settings.language).analyze(
                text=text,
                language=settings.language,
                entities=settings.entities,
                score_threshold=settings.min_score_percent / 100,
            )
        except (OSError, SystemExit, ValueError) as error:  # spaCy leaves the process where it finds no model
            raise HookError(f"Presidio cannot read texts in {settings.language!r}: is its model installed?") from error
        return joined(Match(one.start, one.end, one.entity_type) for one in found)


@cache
def _engine(language: str) -> Any:
    """The analyser of a language. The first time takes seconds."""
    return presidio_analyzer.AnalyzerEngine(supported_languages=[language])


HOOK = Presidio if presidio_analyzer is not None else None
