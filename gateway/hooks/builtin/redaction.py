"""Personal data stays inside: what patterns find and an issuer's own rule confirms, names, patterns of one's own."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from gateway.hooks.base import Resources, SettingsError
from gateway.hooks.patterns import Finder, Match, PatternFinder, find_all, joined
from gateway.hooks.personal_data import card_finder, email_finder, iban_finder, number_finder, phone_finder
from gateway.hooks.placeholders import Placeholders
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
NUMBER_LABELS = {
    "at_vnr": "Austria: Versicherungsnummer",
    "br_cpf": "Brazil: CPF",
    "ch_ssn": "Switzerland: AHV-Nummer",
    "de_idnr": "Germany: Steuer-Identifikationsnummer",
    "es_dni": "Spain: DNI",
    "fr_nir": "France: NIR",
    "gb_nhs": "United Kingdom: NHS number",
    "it_codicefiscale": "Italy: codice fiscale",
    "nl_bsn": "Netherlands: BSN",
    "pl_pesel": "Poland: PESEL",
    "us_ssn": "United States: SSN",
}
MOST_PATTERNS = 50


class Pattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern of one's own; `label` stands in its placeholder."""

    label: Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z_]{1,18}$")]
    pattern: Annotated[str, msgspec.Meta(min_length=1)]


class RedactionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: Annotated[bool, msgspec.Meta(title="E-mail", description="E-mail addresses.")] = True
    phone: Annotated[bool, msgspec.Meta(description="Phone numbers that a numbering plan knows.")] = True
    phone_regions: Annotated[
        list[str],
        msgspec.Meta(
            description="Where numbers without a country code are from, such as DE. With one they are always found."
        ),
    ] = []
    iban: Annotated[bool, msgspec.Meta(title="IBAN", description="Bank accounts.")] = True
    card: Annotated[bool, msgspec.Meta(description="Card numbers, by their check digit.")] = True
    numbers: Annotated[
        list[Number],
        msgspec.Meta(
            description="Numbers that authorities give to people, by their own rules.",
            extra_json_schema={"labels": NUMBER_LABELS},
        ),
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


class Redaction(Placeholders[RedactionSettings]):
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
        self.reinsert = settings.reinsert
        self.answer_finders = self._finders if settings.redact_answers else ()
        self.watch()

    async def found(self, text: str) -> list[Match]:
        return joined([match async for match in find_all(self._finders, text)])


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


HOOK = Redaction
