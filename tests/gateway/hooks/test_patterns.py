"""Patterns of operators: taken where their search is bounded, refused with the reason where it is not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hooks.base import SettingsError
from gateway.hooks.patterns import PIECE_CHARACTERS, Match, PatternFinder, check_pattern, find_all, joined
from gateway.hooks.terms import MOST_TERMS, TermFinder

REDOS = [
    r"(a+)+$", r"(a|a)*b", r"(a|aa)+$", r"(.*a){12}", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(\w{1,20}){1,15}!",
    r"(a?){40}a{40}", r"(x{1,30}){1,10}y", r"a{0,60}a{0,60}a{0,60}b", r"(.{1,9}){1,9}=", r"\d+", r".*", r"(?:ab){2,}c",
]  # fmt: skip


@pytest.mark.parametrize("pattern", REDOS)
def test_patterns_that_might_take_for_ever(pattern: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_pattern(pattern, field="patterns")
    assert refused.value.field == "patterns"
    assert re.search("say how many|too many ways|matches nothing", str(refused.value))


@pytest.mark.parametrize(
    "pattern", ["(", "a{2,1}", r"(a)\1", r"(?P<x>a)(?(x)b|c)", "a?", "", "(?=a)", "x" * 501, "y{401}"]
)
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(SettingsError):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "width"),
    [
        (r"EMP-\d{6}", 10),
        (r"(?i)\bproject (?:orion|lyra)\b", 13),
        (r"[A-Z]{2}\d{6,10}", 12),
        (r"(?:\d{4}[ -]?){3}\d{4}", 19),
        (r"(?<!\d)\d{3}-\d{4}(?!\d)", 8),
        (r"\w{1,40} GmbH", 45),
    ],
)
def test_usual_patterns(pattern: str, width: int) -> None:
    assert check_pattern(pattern) == width


async def found(finder: PatternFinder | TermFinder, text: str, *, begin: int = 0) -> list[str]:
    return [text[match.start : match.end] async for match in find_all([finder], text, begin=begin)]


@pytest.mark.parametrize("offset", range(PIECE_CHARACTERS - 14, PIECE_CHARACTERS + 3))
async def test_a_long_text_is_searched_in_pieces_that_hide_nothing(offset: int) -> None:
    text = "." * offset + "EMP-123456" + "." * 3 * PIECE_CHARACTERS + "EMP-654321"
    assert await found(PatternFinder(r"EMP-\d{6}", kind="X"), text) == ["EMP-123456", "EMP-654321"]
    spaced = text.replace(".", " ")
    assert await found(TermFinder(["emp"], kind="X"), spaced) == ["EMP", "EMP"]


@given(st.text(alphabet="ab1 ", max_size=40), st.integers(0, 40))
async def test_what_is_found_is_what_python_finds(text: str, begin: int) -> None:
    pattern = r"\ba{1,3}b?|1{2}"
    expected = [one[0] for one in re.compile(pattern).finditer(text, begin)]
    assert await found(PatternFinder(pattern, kind="X"), text, begin=begin) == expected


async def test_terms_are_whole_words_of_any_case() -> None:
    finder = TermFinder(["Straße", "new york", "C++", "o'neil", "ann"], kind="X")
    text = "STRASSE straße, New\n  York newyork C++ c++11 O'NEIL's Ann Anna annotate joann ANN"
    assert await found(finder, text) == ["straße", "New\n  York", "C++", "c++", "O'NEIL", "Ann", "ANN"]


@pytest.mark.parametrize("terms", [["+x"], [""], ["a" * 101], [str(n) for n in range(MOST_TERMS + 1)]])
def test_lists_that_are_refused(terms: list[str]) -> None:
    with pytest.raises(SettingsError):
        TermFinder(terms, kind="X", field="names")


def test_what_overlaps_becomes_one() -> None:
    matches = [Match(5, 9, "B"), Match(0, 3, "A"), Match(7, 12, "C"), Match(5, 6, "D"), Match(12, 13, "E")]
    assert joined(matches) == [Match(0, 3, "A"), Match(5, 12, "B"), Match(12, 13, "E")]
