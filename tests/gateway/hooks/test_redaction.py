"""Personal data: found by the issuers' own rules, replaced, and put back, in requests and answers of every form."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.hooks.base import Resources, SettingsError
from gateway.hooks.registry import build
from tests.gateway.hooks.asking import Asked, arguments, built, chunk, said

ALL: dict[str, Any] = {
    "phone_regions": ["DE"],
    "numbers": [
        "us_ssn", "de_idnr", "gb_nhs", "fr_nir", "it_codicefiscale", "es_dni", "nl_bsn", "pl_pesel", "br_cpf", "ch_ssn",
        "at_vnr",
    ],
    "names": ["Anna Schmidt", "Anna", "O'Neil"],
    "patterns": [{"label": "STAFF", "pattern": r"EMP-\d{6}"}],
}  # fmt: skip

FOUND = {
    "anna.schmidt+x@mail.example.co.uk": "EMAIL",
    "ännchen@müller.example": "EMAIL",
    "+49 30 901820": "PHONE",
    "030 901820": "PHONE",
    "(030) 90 18-20": "PHONE",
    "0049 30 901820": "PHONE",
    "+1 (415) 555-2671": "PHONE",
    "DE89 3704 0044 0532 0130 00": "IBAN",
    "GB82WEST12345698765432": "IBAN",
    "4111 1111 1111 1111": "CARD",
    "5500-0055-5555-5559": "CARD",
    "378282246310005": "CARD",
    "536-90-4399": "US_SSN",
    "36574261809": "DE_IDNR",
    "943 476 5919": "GB_NHS",
    "RCCMNL83S18D969H": "IT_CODICEFISCALE",
    "54362315-K": "ES_DNI",
    "111222333": "NL_BSN",
    "44051401359": "PL_PESEL",
    "390.533.447-05": "BR_CPF",
    "756.9217.0769.85": "CH_SSN",
    "1237 010180": "AT_VNR",
    "Anna Schmidt": "NAME",
    "EMP-123456": "STAFF",
}
LEFT = [
    "ann at example.com", "a@b", "4111 1111 1111 1112", "0000 0000 0000 0000", "GB82 WEST 1234 5698 7654 33",
    "2026-11-21 15:30", "12345", "219-09-999", "Annapurna", "EMP-12345", "v1.2.3", "1,000,000", "10.0.0.1:8000",
]  # fmt: skip


async def redacted(text: str, settings: dict[str, Any]) -> str:
    return (await Asked(built("pii_redaction", settings)).hooks.texts_before([text]))[0]


@pytest.mark.parametrize(("value", "kind"), FOUND.items())
@pytest.mark.parametrize("around", ["{}", "Call {}, please.", "x 1 {} 12 and", "({})", "«{}»\n{}"])
async def test_what_is_found(value: str, kind: str, around: str) -> None:
    after = await redacted(around.format(value, value), ALL)
    assert value not in after
    assert f"[{kind}_1]" in after, after


@pytest.mark.parametrize("value", LEFT)
async def test_what_is_left(value: str) -> None:
    text = f"it says {value} there"
    assert await redacted(text, ALL) == text


async def test_one_value_has_one_placeholder_and_comes_back() -> None:
    asked = Asked(built("pii_redaction", ALL))
    texts = ["Anna wrote a@example.com and b@example.com", "a@example.com, [EMAIL_2] is mine"]
    sent = await asked.hooks.texts_before(texts)
    assert sent == ["[NAME_1] wrote [EMAIL_1] and [EMAIL_3]", "[EMAIL_1], [EMAIL_2] is mine"]
    assert await asked.hooks.texts_after(["to [EMAIL_3], [EMAIL_1], [EMAIL_2], [EMAIL_9] and [NAME_1]"]) == [
        "to b@example.com, a@example.com, [EMAIL_2], [EMAIL_9] and Anna"
    ]
    assert [(note.stage, note.verdict, note.fields) for note in asked.notes] == [
        ("before_call", "modify", ["texts[0]", "texts[1]"]),
        ("after_call", "modify", ["texts[0]"]),
    ]
    assert "example.com" not in str(asked.notes)
    assert await Asked(built("pii_redaction", ALL)).hooks.texts_after(["[EMAIL_1]"]) == ["[EMAIL_1]"], "another call"


ANSWER = "Dear [NAME_1], [EMAIL_1] it is; not [EMAIL_10] nor x@example.org or [EMAIL_1"


@pytest.mark.parametrize("redact_answers", [False, True])
async def test_it_comes_back_on_streams_at_every_split(redact_answers: bool) -> None:
    settings = {**ALL, "redact_answers": redact_answers}
    expected = "Dear Anna, a@example.com it is; not [EMAIL_10] nor x@example.org or [EMAIL_1"
    if redact_answers:
        expected = expected.replace("x@example.org", "[EMAIL]")
    for cut in range(1, len(ANSWER)):
        asked = Asked(built("pii_redaction", settings))
        await asked.hooks.texts_before(["Anna, a@example.com"])
        pieces = [chunk({"content": ANSWER[:cut]}), chunk({"content": ANSWER[cut:]}), chunk({}, finish="stop")]
        assert said(await asked.stream(pieces)) == expected, cut


async def test_what_goes_into_json_is_escaped() -> None:
    asked = Asked(built("pii_redaction", {"patterns": [{"label": "PLACE", "pattern": r'"Haus\\ \w{1,9}"'}]}))
    assert await asked.hooks.texts_before(['in "Haus\\ Nord"']) == ["in [PLACE_1]"]
    told = '{"where": "[PLACE_1]"}'
    call = {"tool_calls": [{"index": 0, "function": {"arguments": told}}]}
    passed = await asked.stream([chunk(call), chunk({}, finish="tool_calls")])
    assert msgspec.json.decode(arguments(passed)) == {"where": '"Haus\\ Nord"'}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"email": False, "phone": False, "iban": False, "card": False}, ""),
        ({"phone_regions": ["Germany"]}, "phone_regions"),
        ({"patterns": [{"label": "X", "pattern": "a{1,2}"}]}, "patterns"),
        ({"patterns": [{"label": "STAFF", "pattern": "(a+)+"}]}, "patterns"),
        ({"numbers": ["xx_id"]}, "numbers"),
        ({"names": ["-"]}, "names"),
        ({"e_mail": True}, ""),
        ({"email": "yes"}, "email"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(SettingsError) as refused:
        build("pii_redaction", settings, resources=Resources())
    assert refused.value.field == field
