"""Finding personal data: e-mail addresses, phone numbers, IBANs, cards, and numbers that authorities give out.

A pattern finds what looks like one, the issuer's own rule (a check sum, a numbering plan) says whether it is. Groups
may be set apart by spaces or hyphens, and other digits may stand beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import phonenumbers
from stdnum import get_cc_module, iban, luhn

from gateway.hooks.base import SettingsError
from gateway.hooks.patterns import Finder, Match

EMAIL = re.compile(r"(?<![\w.+%'-])[\w.%+'-]{1,64}@(?:[\w-]{1,40}\.){1,5}[^\W\d_]{2,24}(?![\w-])")
EMAIL_WIDTH = 64 + 1 + 5 * 41 + 24
CARD = re.compile(r"(?<![\w-])[2-6]\d{3}(?:[ -]?\d){9,22}(?!\w)")
CARD_WIDTH = 52
CARD_DIGITS = range(13, 20)
IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,40}")
IBAN_WIDTH = 90
PHONE = re.compile(r"(?<![\w/])(?:\+|00|\()?\d(?:[\s().\-/\u2013]{0,2}\d){5,16}")
PHONE_WIDTH = 1 + 1 + 16 * 3
NORTH_AMERICA = 1
GROUP_END = re.compile(r"[\s().\-/\u2013]+|$")

NUMBERS = {
    "at_vnr": r"\d{4} ?\d{6}",
    "br_cpf": r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}",
    "ch_ssn": r"756\.?\d{4}\.?\d{4}\.?\d{2}",
    "de_idnr": r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
    "es_dni": r"\d{8}-?[A-Za-z]",
    "fr_nir": r"[12] ?\d{2} ?\d{2} ?\d[0-9AaBb] ?\d{3} ?\d{3} ?\d{2}",
    "gb_nhs": r"\d{3}[ -]?\d{3}[ -]?\d{4}",
    "it_codicefiscale": r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]",
    "nl_bsn": r"\d{9}",
    "pl_pesel": r"\d{11}",
    "us_ssn": r"\d{3}-\d{2}-\d{4}",
}
"""Numbers of people by country and name, as python-stdnum has them, and what they look like."""

NUMBER_WIDTH = 24


class CheckedFinder(Finder):
    """Looks for what a pattern finds and a rule confirms; a match may also end earlier, where a group does."""

    def __init__(
        self,
        pattern: re.Pattern[str],
        *,
        kind: str,
        width: int,
        confirms: Callable[[str], bool],
        ends: re.Pattern[str] = GROUP_END,
    ) -> None:
        self._pattern = pattern
        self._kind = kind
        self._confirms = confirms
        self._ends = ends
        self.width = width

    def find(self, text: str, begin: int, *, end: int) -> Iterator[Match]:
        """See `Finder`."""
        at = begin
        while at < end and (found := self._pattern.search(text, at, min(len(text), end + self.width + 1))):
            if found.start() >= end:
                return
            ended = self._confirmed_end(text, found)
            if ended is None:
                at = found.start() + 1
            else:
                yield Match(found.start(), ended, self._kind)
                at = ended

    def _confirmed_end(self, text: str, found: re.Match[str]) -> int | None:
        ends = {found.end(), *(gap.start() for gap in self._ends.finditer(text, found.start(), found.end()))}
        for end in sorted(ends, reverse=True):
            if end > found.start() and self._confirms(text[found.start() : end]):
                return end
        return None


def _is_card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    return len(digits) in CARD_DIGITS and digits.isdecimal() and luhn.is_valid(digits) and len(set(digits)) > 1


def _is_iban(text: str) -> bool:
    return bool(iban.is_valid(text))


def _phone_check(regions: Sequence[str]) -> Callable[[str], bool]:
    prefixes = {region: _national_prefix(region) for region in regions}

    def is_phone(text: str) -> bool:
        digits = re.sub(r"\D", "", text)
        if text.startswith("+"):
            return _is_number(text, None)
        if digits.startswith("00") and _is_number(f"+{digits[2:]}", None):
            return True
        return any(digits.startswith(prefix) and _is_number(text, region) for region, prefix in prefixes.items())

    return is_phone


def _is_number(text: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _national_prefix(region: str) -> str:
    """What is dialled before a number within a country. Without it, any figure might be one; where it is left out as a
    rule, as in North America, nothing."""
    if phonenumbers.country_code_for_region(region) == NORTH_AMERICA:
        return ""
    return phonenumbers.ndd_prefix_for_region(region, True) or ""


def email_finder() -> Finder:
    return CheckedFinder(EMAIL, kind="EMAIL", width=EMAIL_WIDTH, confirms=lambda _: True, ends=re.compile(r"(?!)"))


def phone_finder(regions: Sequence[str], *, field: str = "") -> Finder:
    """Numbers with a country code, and those as they are dialled within these regions. Raises `SettingsError`."""
    if unknown := sorted(set(regions) - phonenumbers.SUPPORTED_REGIONS):
        raise SettingsError(f"{unknown[0]!r} is no region; write two capital letters such as DE.", field)
    return CheckedFinder(PHONE, kind="PHONE", width=PHONE_WIDTH, confirms=_phone_check(regions))


def card_finder() -> Finder:
    return CheckedFinder(CARD, kind="CARD", width=CARD_WIDTH, confirms=_is_card)


def iban_finder() -> Finder:
    return CheckedFinder(IBAN, kind="IBAN", width=IBAN_WIDTH, confirms=_is_iban)


def number_finder(name: str) -> Finder:
    """One of `NUMBERS`."""
    country, _, number = name.partition("_")
    module = get_cc_module(country, number)
    assert module is not None
    pattern = re.compile(rf"(?<![\w-])(?:{NUMBERS[name]})(?!\w)")
    return CheckedFinder(pattern, kind=name.upper(), width=NUMBER_WIDTH, confirms=module.is_valid)
