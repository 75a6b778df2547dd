"""Sixty answers of models that do not match the schema they were given, and what has to become of each.

What is repaired has its value there, and only what stands around it has to go. What others mean only the model can say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.gateway.schemas.conftest import FITTING

GOOD = json.dumps(FITTING)
INDENTED = json.dumps(FITTING, indent=2)
FENCE = "```"


@dataclass(frozen=True)
class Broken:
    name: str
    text: str
    is_repaired: bool = False
    finish_reason: str = "stop"
    says: str = ""
    """A keyword of the schema, or `json`, that the violations must name."""


def _but(**changed: Any) -> str:
    return json.dumps({**FITTING, **changed})


def _without(name: str) -> str:
    return json.dumps({key: value for key, value in FITTING.items() if key != name})


def _nested(depth: int) -> str:
    return f'{{"city": "Oslo", "degrees": 3, "sky": "clear", "gusts": {"[" * depth}{"]" * depth}}}'


FENCED = [
    ("with a language", f"{FENCE}json\n{GOOD}\n{FENCE}"),
    ("without one", f"{FENCE}\n{GOOD}\n{FENCE}"),
    ("in capitals", f"{FENCE}JSON\n{INDENTED}\n{FENCE}"),
    ("after a word", f"Here you are:\n\n{FENCE}json\n{INDENTED}\n{FENCE}"),
    ("before a word", f"{FENCE}json\n{GOOD}\n{FENCE}\nAnything else?"),
    ("of tildes", f"~~~json\n{GOOD}\n~~~"),
    ("on one line", f"{FENCE}{GOOD}{FENCE}"),
    ("never closed", f"{FENCE}json\n{GOOD}"),
    ("with Windows' line ends", f"{FENCE}json\r\n{GOOD}\r\n{FENCE}\r\n"),
    ("with a comma too many", f'{FENCE}json\n{{"city": "Oslo", "degrees": 3, "sky": "clear",}}\n{FENCE}'),
]
AROUND = [
    ("before", f"The weather is as follows: {GOOD}"),
    ("after", f"{GOOD} I hope this helps!"),
    ("on both sides", f"Sure! {GOOD}\n\nLet me know."),
    ("with an apostrophe", f"That's what you asked for: {GOOD}"),
    ("with a lonely quote", f'He said "it is cold: {GOOD}'),
    ("with a footnote", f"As seen in [1]: {GOOD}"),
    ("with another object", f'{{"thought": "Oslo it is"}} {GOOD}'),
    ("in a tag", f"<json>{GOOD}</json>"),
    ("after a thought", f"<think>It is cold.</think>{GOOD}"),
    ("with braces in a text", 'So: {"city": "{Oslo] \\"", "degrees": 3, "sky": "clear"}.'),
]
COMMAS = [
    ("in an object", '{"city": "Oslo", "degrees": 3, "sky": "clear",}'),
    ("in an array", '{"city": "Oslo", "degrees": 3, "sky": "clear", "gusts": [{"knots": 9},]}'),
    ("in both", '{"city": "Oslo", "degrees": 3, "sky": "clear", "gusts": [{"knots": 9,},],}'),
    ("before a line end", '{"city": "Oslo", "degrees": 3, "sky": "clear",\n}'),
    ("beside one in a text", '{"city": "Oslo,}", "degrees": 3, "sky": "clear" , }'),
]
CUT = [
    ("within a name", GOOD[:6]),
    ("within a text", GOOD[:12]),
    ("after a colon", '{"city":'),
    ("after a comma", '{"city": "Oslo",'),
    ("within an array", GOOD[: GOOD.index("[") + 3]),
    ("before the last bracket", GOOD[:-1]),
    ("in a fence", f"{FENCE}json\n{GOOD[:-1]}"),
    ("after a word", f"Here you are: {GOOD[:30]}"),
]
TYPES = [
    ("a text for a number", _but(degrees="3")),
    ("a fraction for a whole number", _but(degrees=3.5)),
    ("a number for a text", _but(city=7)),
    ("null for a text", _but(city=None)),
    ("an object for an array", _but(gusts={"knots": 9})),
    ("an array for the object", json.dumps([FITTING, FITTING])),
    ("a text for the object", json.dumps("Oslo")),
    ("JSON in a text", json.dumps(GOOD)),
    ("true for a number", _but(degrees=True)),
]
ENUMS = [
    ("another word", _but(sky="rainy")),
    ("another case", _but(sky="Clear")),
    ("a list of words", _but(sky=["clear"])),
    ("a space too many", _but(sky="clear ")),
]
MEMBERS = [
    ("one missing", _without("city"), "required"),
    ("two missing", '{"city": "Oslo"}', "required"),
    ("one too many", _but(mood="good"), "additionalProperties"),
    ("none", "{}", "required"),
]
DEEP = [
    ("a wrong type below", _but(gusts=[{"knots": 9}, {"knots": "nine"}]), "type"),
    ("a missing member below", _but(gusts=[{"knots": 9}, {}]), "required"),
    ("300 arrays", _nested(300), ""),
    ("5,000 arrays", _nested(5_000), "json"),
]
RUBBISH = [
    ("nothing", ""),
    ("prose", "It is three degrees in Oslo and the sky is clear."),
    ("Python", "{'city': 'Oslo', 'degrees': 3, 'sky': 'clear'}"),
    ("not a number", '{"city": "Oslo", "degrees": NaN, "sky": "clear"}'),
    ("a comment", '{"city": "Oslo", /* cold */ "degrees": 3, "sky": "clear"}'),
    ("two answers", f"{GOOD} or {_but(degrees=4)}"),
]

BROKEN = [
    *(Broken(f"fence {name}", text, is_repaired=True) for name, text in FENCED),
    *(Broken(f"text {name}", text, is_repaired=True) for name, text in AROUND),
    *(Broken(f"comma {name}", text, is_repaired=True) for name, text in COMMAS),
    *(Broken(f"cut {name}", text, finish_reason="length", says="length") for name, text in CUT),
    *(Broken(f"type: {name}", text, says="type") for name, text in TYPES),
    *(Broken(f"enum: {name}", text, says="enum") for name, text in ENUMS),
    *(Broken(f"members: {name}", text, says=word) for name, text, word in MEMBERS),
    *(Broken(f"deep: {name}", text, says=word) for name, text, word in DEEP),
    *(Broken(f"rubbish: {name}", text, says="json" if "two" not in name else "ambiguous") for name, text in RUBBISH),
]
assert len(BROKEN) == 60
