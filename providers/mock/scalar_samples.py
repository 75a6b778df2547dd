"""Texts and numbers that fit the scalar keywords of a JSON Schema."""

from __future__ import annotations

import math
from fractions import Fraction

from providers.mock.pattern_samples import PatternUnsupportedError, text_matching
from providers.mock.schema_reading import Schema, SchemaProblemError, count, keyword

FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "idn-email": "someone@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "uri-reference": "https://example.com/",
    "iri": "https://example.com/",
    "iri-reference": "https://example.com/",
    "uri-template": "https://example.com/{name}",
    "json-pointer": "/name",
    "relative-json-pointer": "0",
    "regex": "a+",
}
"""A text for each format of JSON Schema 2020-12, made of names and addresses reserved for examples."""


def text_sample(schema: Schema, hint: str, *, variant: int) -> str:
    """A text that fits; `hint` becomes part of it, and texts of different `variant` differ where they may."""
    least, most = count(schema, "minLength") or 0, count(schema, "maxLength")
    if "pattern" in schema:
        try:
            text = text_matching(keyword(schema, "pattern", kind=str), least)
        except PatternUnsupportedError as error:
            raise SchemaProblemError(f"the mock cannot read its pattern: {error}") from error
    elif keyword(schema, "format", kind=str) in FORMATS:
        text = FORMATS[schema["format"]]
    else:
        text = (f"{variant + 1} {hint}" if variant else f"some {hint}").ljust(least, ".")[:most]
    if len(text) < least or (most is not None and len(text) > most):
        raise SchemaProblemError("the mock finds no text of the length it asks for")
    return text


def number_sample(schema: Schema, *, whole: bool, variant: int) -> int | float:
    """A number that fits; the plainest of a few candidates, counted up by `variant`."""
    step = _step(schema, whole=whole)
    limits = {name: Fraction(str(schema[name])) for name in _BOUNDS if _is_number(schema, name)}
    low = max((limits[name] for name in ("minimum", "exclusiveMinimum") if name in limits), default=None)
    high = min((limits[name] for name in ("maximum", "exclusiveMaximum") if name in limits), default=None)
    starts = [Fraction(1) if whole else Fraction(3, 2), Fraction(1), Fraction(0)]
    starts += [low, low + 1, low + (step or 0)] if low is not None else []
    starts += [high, high - 1, high - (step or 0)] if high is not None else []
    starts += [(low + high) / 2] if low is not None and high is not None else []
    fitting = [number for start in starts for number in _on_step(start, step) if _fits(number, limits)]
    if not fitting:
        raise SchemaProblemError("no number fits it")
    number = fitting[0]
    counted = [number + variant * (step or 1), number - variant * (step or 1)]
    number = next((other for other in counted if _fits(other, limits)), number)
    return int(number) if number.denominator == 1 else float(number)


_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def _is_number(schema: Schema, name: str) -> bool:
    value = schema.get(name)
    if value is None or isinstance(value, bool):  # a boolean exclusiveMinimum is of draft 4
        return False
    if not isinstance(value, int | float):
        raise SchemaProblemError(f"{value!r:.100} is not a valid '{name}'")
    return True


def _step(schema: Schema, *, whole: bool) -> Fraction | None:
    """What the number must be a multiple of."""
    if not _is_number(schema, "multipleOf"):
        return Fraction(1) if whole else None
    step = Fraction(str(schema["multipleOf"]))
    if step <= 0:
        raise SchemaProblemError("'multipleOf' must be above 0")
    return Fraction(step.numerator) if whole else step


def _on_step(start: Fraction, step: Fraction | None) -> list[Fraction]:
    if step is None:
        return [start]
    return [math.ceil(start / step) * step, math.floor(start / step) * step]


def _fits(number: Fraction, limits: dict[str, Fraction]) -> bool:
    return not (
        ("minimum" in limits and number < limits["minimum"])
        or ("exclusiveMinimum" in limits and number <= limits["exclusiveMinimum"])
        or ("maximum" in limits and number > limits["maximum"])
        or ("exclusiveMaximum" in limits and number >= limits["exclusiveMaximum"])
    )
