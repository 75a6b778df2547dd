"""Personal data stays inside: the provider gets placeholders, the client gets its own words back.

A value has one placeholder throughout a call, so a model can tell two people apart. What stands for what is known to
this call alone and is gone with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from gateway.hooks.base import (
    Edit,
    Hook,
    Resources,
    SettingsError,
    Stage,
    Streams,
    Subject,
    Text,
    Verdict,
    Window,
    edited,
)
from gateway.hooks.patterns import Finder, Match, PatternFinder, find_all, joined
from gateway.hooks.personal_data import card_finder, email_finder, iban_finder, number_finder, phone_finder
from gateway.hooks.terms import TermFinder

Number = Literal[
    "at_vnr",
    "br_cpf",
    "ch_ssn",
    "de_idnr",
    "es_dni",
    "fr_nir",
    "gb_nhs",
    "it_codicefiscale",
    "nl_bsn",
    "pl_pesel",
    "us_ssn",
]
PLACEHOLDER = re.compile(r"\[[A-Z_]{2,20}_[1-9][0-9]{0,5}\]")
PLACEHOLDER_WIDTH = 30
MOST_PATTERNS = 50


class Pattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern of one's own; `label` stands in its placeholder."""

    label: Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z_]{1,18}$")]
    pattern: Annotated[str, msgspec.Meta(min_length=1)]


class RedactionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: Annotated[bool, msgspec.Meta(description="E-mail addresses.")] = True
    phone: Annotated[bool, msgspec.Meta(description="Phone numbers that a numbering plan knows.")] = True
    phone_regions: Annotated[
        list[str],
        msgspec.Meta(
            description="Where numbers without a country code are from, such as DE. With one they are always found."
        ),
    ] = []
    iban: Annotated[bool, msgspec.Meta(description="Bank accounts.")] = True
    card: Annotated[bool, msgspec.Meta(description="Card numbers, by their check digit.")] = True
    numbers: Annotated[
        list[Number], msgspec.Meta(description="Numbers that authorities give to people, by their own rules.")
    ] = []
    names: Annotated[
        list[str], msgspec.Meta(description="Names and other words, one in a line; their case does not matter.")
    ] = []
    patterns: Annotated[
        list[Pattern],
        msgspec.Meta(description='Patterns of your own: [{"label": "STAFF", "pattern": "EMP-[0-9]{6}"}].'),
    ] = []
    reinsert: Annotated[bool, msgspec.Meta(description="Put the values back into the answer.")] = True
    redact_answers: Annotated[
        bool, msgspec.Meta(description="Also replace what is found in answers and was not in the request, for good.")
    ] = False


class _Vault:
    """Which placeholder stands for which value, in one call."""

    def __init__(self, taken: set[str]) -> None:
        self.values: dict[str, str] = {}
        self._placeholders: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self._taken = taken
        """What looks like a placeholder in the client's own text stands for itself."""

    def placeholder(self, kind: str, value: str) -> str:
        known = self._placeholders.get((kind, value))
        while known is None:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            made = f"[{kind}_{self._counts[kind]}]"
            if made not in self._taken:
                known = self._placeholders[kind, value] = made
                self.values[made] = value
        return known


class _PlaceholderFinder(Finder):
    """Looks for the placeholders of one call."""

    width = PLACEHOLDER_WIDTH

    def __init__(self, vault: _Vault) -> None:
        self._vault = vault

    def find(self, text: str, begin: int, *, end: int) -> Iterator[Match]:
        for found in PLACEHOLDER.finditer(text, begin, min(len(text), end + self.width + 1)):
            if found.start() < end and found[0] in self._vault.values:
                yield Match(found.start(), found.end(), "")


class Redaction(Hook[RedactionSettings]):
    name = "pii_redaction"
    description = (
        "Replaces e-mail addresses, phone numbers, IBANs, cards, names and patterns of your own by placeholders before "
        "the provider sees them, and puts them back into the answer."
    )
    settings_type = RedactionSettings

    def __init__(self, settings: RedactionSettings, resources: Resources) -> None:
        super().__init__(settings, resources)
        self._finders = _finders(settings)
        if not self._finders:
            raise SettingsError("There is nothing to look for: choose at least one kind.")
        self.stages = frozenset(Stage) if settings.reinsert or settings.redact_answers else frozenset({Stage.BEFORE})
        self.streams = Streams.WINDOW if len(self.stages) > 1 else Streams.PASS
        widths = [finder.width for finder in self._finders] if settings.redact_answers else []
        self.overlap_characters = max([PLACEHOLDER_WIDTH, *widths]) + 1

    async def before_call(self, request: Subject) -> Verdict:
        taken = {found[0] for text in request.texts for found in PLACEHOLDER.finditer(text.value)}
        vault = request.memory.setdefault("vault", _Vault(taken))
        edits = []
        for number, text in enumerate(request.texts):
            for match in await _found(self._finders, text.value):
                value = _plain(text.value[match.start : match.end], is_json=text.is_json)
                edits.append(Edit(number, match.start, match.end, vault.placeholder(match.kind, value)))
        return edited(edits)

    async def on_chunk(self, window: Window) -> Verdict:
        text = Text(window.path, window.text, window.is_json)
        return edited(await self._restored(0, text, begin=window.begin, memory=window.memory))

    async def after_call(self, answer: Subject) -> Verdict:
        edits: list[Edit] = []
        for number, text in enumerate(answer.texts):
            edits += await self._restored(number, text, begin=0, memory=answer.memory)
        return edited(edits)

    async def _restored(self, number: int, text: Text, *, begin: int, memory: dict[str, Any]) -> list[Edit]:
        """What was redacted is put back, and what else is found is replaced."""
        vault = memory.setdefault("vault", _Vault(set()))
        finders: list[Finder] = [_PlaceholderFinder(vault)] if self.settings.reinsert and vault.values else []
        if self.settings.redact_answers:
            finders += self._finders
        edits = []
        found = [match async for match in find_all(finders, text.value, begin=begin)]
        own = [match for match in found if not match.kind]
        others = [match for match in found if match.kind and not any(_overlap(match, one) for one in own)]
        for match in [*own, *joined(others)]:
            if match.kind:
                replacement = f"[{match.kind}]"
            else:
                value = vault.values[text.value[match.start : match.end]]
                replacement = _escaped(value) if text.is_json else value
            edits.append(Edit(number, match.start, match.end, replacement))
        return edits


def _finders(settings: RedactionSettings) -> list[Finder]:
    finders: list[Finder] = []
    if settings.email:
        finders.append(email_finder())
    if settings.iban:
        finders.append(iban_finder())
    if settings.card:
        finders.append(card_finder())
    finders += [number_finder(name) for name in settings.numbers]
    if settings.phone:
        finders.append(phone_finder(settings.phone_regions, field="phone_regions"))
    if settings.names:
        finders.append(TermFinder(settings.names, kind="NAME", field="names"))
    if len(settings.patterns) > MOST_PATTERNS:
        raise SettingsError(f"There are at most {MOST_PATTERNS} patterns.", "patterns")
    finders += [PatternFinder(own.pattern, kind=own.label, field="patterns") for own in settings.patterns]
    return finders


async def _found(finders: list[Finder], text: str) -> list[Match]:
    return joined([match async for match in find_all(finders, text)])


def _overlap(one: Match, other: Match) -> bool:
    return one.start < other.end and other.start < one.end


def _plain(value: str, *, is_json: bool) -> str:
    """What a piece of a JSON string says."""
    if is_json and "\\" in value:
        try:
            return str(msgspec.json.decode(f'"{value}"', type=str))
        except msgspec.DecodeError:
            pass
    return value


def _escaped(value: str) -> str:
    return msgspec.json.encode(value).decode()[1:-1]


HOOK = Redaction
