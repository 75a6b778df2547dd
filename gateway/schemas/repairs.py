"""What a model meant to answer: the JSON in what it said. Nothing is guessed.

Taken away: code fences and prose around the value, and commas before a closing bracket. Nothing is added: an answer
that was cut off has no end, and an end that the gateway makes up would be the gateway's answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

LONGEST_REPAIRED = 256 * 1024
"""A longer text is asked for again: looking through it would hold up everybody else."""

MOST_VALUES = 20
"""So many values in one text are looked at."""

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["{}\[\]]', re.DOTALL)
OPENING = re.compile(r"[{\[]")
STRING_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)


class NotJsonError(ValueError):
    """A text that is no JSON value, and why."""


def parse(text: str) -> Any:
    """The JSON value that a text is. Raises `NotJsonError`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise NotJsonError(str(error)) from error
    except RecursionError as error:
        raise NotJsonError("it is nested too deeply") from error


def candidates(text: str) -> Iterator[tuple[str, Any]]:
    """The objects and arrays in a text, each as text and value, none of them inside another."""
    if len(text) > LONGEST_REPAIRED:
        return
    for count, piece in enumerate(_balanced(text)):
        if count == MOST_VALUES:
            return
        mended = STRING_OR_COMMA.sub(lambda found: found[1] or "", piece)
        try:
            yield mended, parse(mended)
        except NotJsonError:
            continue


def _balanced(text: str) -> Iterator[str]:
    """The stretches from an opening bracket to the one that closes it. One that is never closed ends the search."""
    at = 0
    while (opening := OPENING.search(text, at)) is not None:
        depth = 0
        for token in TOKEN.finditer(text, opening.start()):
            sign = token[0]
            if sign == '"':
                return  # a string without an end
            if sign in "{[":
                depth += 1
            elif sign in "}]":
                depth -= 1
            if depth == 0:
                at = token.end()
                yield text[opening.start() : at]
                break
        else:
            return
