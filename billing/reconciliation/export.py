"""A provider's usage export as people upload it: a CSV of day, model, tokens and cost in USD.

Lines of one day and model are summed: exports have one for each key or project.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from billing.errors import ReconciliationError
from billing.money import HIGHEST_AMOUNT_USD, NANO_USD

MOST_BYTES = 10 * 1024 * 1024
MOST_GROUPS = 20_000
"""Days times models. Fifty models over a year are 18,250."""

MOST_TOKENS = 10**15
MOST_SUM = 10**18
"""Tokens or nano-USD (a billion USD) of a whole file: what is beyond is no usage, and no column holds it."""

MOST_DAYS = 92
"""The ledger is read for all of them, while somebody waits."""

MOST_CELL_CHARACTERS = 200

COLUMNS = {
    "day": ("day", "date"),
    "model": ("model", "model_name"),
    "tokens": ("tokens", "total_tokens"),
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "cost": ("cost", "cost_usd", "amount"),
}
"""What a column may be called; case and surrounding spaces do not count, and further columns are left aside."""


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens and cost of one model on one UTC day."""

    tokens: int = 0
    cost_nano_usd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFile:
    """What a file said."""

    name: str
    sha256: str
    used: dict[tuple[dt.date, str], Used]
    lines: int

    @property
    def first_day(self) -> dt.date:
        return min(day for day, _ in self.used)

    @property
    def last_day(self) -> dt.date:
        return max(day for day, _ in self.used)


def read_file(name: str, content: bytes) -> ExportFile:
    """Read a whole file. Raises `ReconciliationError` naming the line and the column."""
    if len(content) > MOST_BYTES:
        raise ReconciliationError(f"The file is larger than {MOST_BYTES // 1024 // 1024} MB: export a shorter time.")
    used: dict[tuple[dt.date, str], Used] = {}
    costs: dict[tuple[dt.date, str], Decimal] = {}
    lines = 0
    for line, row in _rows(_text(content)):
        key = (_day(row["day"], line=line), _model(row["model"], line=line))
        tokens = sum(_tokens(row[name], line=line, column=name) for name in row if name.endswith("tokens"))
        costs[key] = costs.get(key, Decimal(0)) + _cost(row["cost"], line=line)
        used[key] = Used(used.get(key, Used()).tokens + tokens)
        lines += 1
        if len(used) > MOST_GROUPS:
            raise ReconciliationError(f"Line {line}: more than {MOST_GROUPS:,} days and models: export a shorter time.")
    if not used:
        raise ReconciliationError("The file has a heading and no line below it.")
    export = ExportFile(
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        used={key: Used(one.tokens, _nano(costs[key])) for key, one in used.items()},
        lines=lines,
    )
    _check_size(export)
    return export


def _check_size(export: ExportFile) -> None:
    """Refuse what is no usage, or more than can be compared at once."""
    for name in ("tokens", "cost_nano_usd"):
        if sum(getattr(one, name) for one in export.used.values()) > MOST_SUM:
            raise ReconciliationError(f"The {name.partition('_')[0]} of all lines add up to what cannot be.")
    days = (export.last_day - export.first_day).days + 1
    if days > MOST_DAYS:
        raise ReconciliationError(f"{export.first_day} to {export.last_day} are {days:,} days: {MOST_DAYS} at most.")


def _text(content: bytes) -> str:
    """Excel marks UTF-8 with three bytes, which do no harm; UTF-16 it calls "Unicode text"."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in content:
        raise ReconciliationError("The file is not UTF-8 text: save it as “CSV UTF-8”.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ReconciliationError(f"Line {line}: this is not UTF-8: save the file as “CSV UTF-8”.") from error


def _rows(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Each line's number and its cells by our names."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        headings = next(reader, [])
        places = _places(headings)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            line = reader.line_num
            if len(cells) != len(headings):
                hint = " Is a decimal comma in it? Write 1.5." if len(cells) > len(headings) else ""
                raise ReconciliationError(
                    f"Line {line}: {len(cells)} cells, where the heading has {len(headings)}.{hint}"
                )
            yield line, {name: cells[place].strip() for name, place in places.items()}
    except csv.Error as error:
        raise ReconciliationError(f"Line {reader.line_num}: this is not CSV: {error}.") from error


def _places(headings: list[str]) -> Mapping[str, int]:
    """Where each of our columns is. Raises `ReconciliationError` for what is missing or there twice."""
    if len(headings) == 1 and ";" in headings[0]:
        raise ReconciliationError("Line 1: the columns are separated by semicolons: separate them by commas.")
    if len(headings) == 1 and "\t" in headings[0]:
        raise ReconciliationError("Line 1: the columns are separated by tabs: separate them by commas.")
    named = [heading.strip().lower().replace(" ", "_")[:MOST_CELL_CHARACTERS] for heading in headings]
    places = {}
    for column, names in COLUMNS.items():
        found = [place for place, heading in enumerate(named) if heading in names]
        if len(found) > 1:
            raise ReconciliationError(f"Line 1: the column {column} is there {len(found)} times.")
        if found:
            places[column] = found[0]
    if {"input_tokens", "output_tokens"} <= places.keys():
        places.pop("tokens", None)  # their sum, said again
    elif "tokens" in places:
        places = {name: place for name, place in places.items() if not name.endswith("put_tokens")}
    else:
        raise ReconciliationError("Line 1: give a column tokens, or both input_tokens and output_tokens.")
    missing = [column for column in ("day", "model", "cost") if column not in places]
    if missing:
        raise ReconciliationError(
            f"Line 1: there is no column {', '.join(missing)}; the heading has {', '.join(named)}."
        )
    return places


def _day(text: str, *, line: int) -> dt.date:
    """A day, or the day of a moment such as 2026-10-31T00:00:00Z: exports are by UTC days."""
    try:
        if text[10:11] not in ("", "T", " "):
            raise ValueError(text)
        day = dt.datetime.strptime(text[:10], "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
        if not 2000 <= day.year < 2200:
            raise ValueError(text)
        return day
    except ValueError as error:
        raise ReconciliationError(f"Line {line}, column day: {_shown(text)} is no day; write 2026-10-31.") from error


def _model(text: str, *, line: int) -> str:
    if not text or len(text) > MOST_CELL_CHARACTERS:
        raise ReconciliationError(f"Line {line}, column model: give 1 to {MOST_CELL_CHARACTERS} characters.")
    return text


def _tokens(text: str, *, line: int, column: str) -> int:
    where = f"Line {line}, column {column}"
    if "," in text:
        raise ReconciliationError(f"{where}: {_shown(text)} has a comma: write 1000, without separators.")
    if text.startswith("-"):
        raise ReconciliationError(f"{where}: {_shown(text)} is negative.")
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MOST_TOKENS)) or int(text) > MOST_TOKENS:
        raise ReconciliationError(f"{where}: {_shown(text)} is not a whole number of at most {MOST_TOKENS:,}.")
    return int(text)


def _cost(text: str, *, line: int) -> Decimal:
    """USD, exact. Finer than a nano-USD is fine: it is rounded once, when a day and model are summed."""
    where = f"Line {line}, column cost"
    if "," in text:
        raise ReconciliationError(f"{where}: {_shown(text)} has a comma: write 1.5, with a point.")
    try:
        cost = Decimal(text.removeprefix("$")) if len(text) <= 40 else Decimal("NaN")
    except InvalidOperation:
        cost = Decimal("NaN")
    if not cost.is_finite():
        raise ReconciliationError(f"{where}: {_shown(text)} is not an amount in USD, such as 1.5.")
    if cost < 0:
        raise ReconciliationError(f"{where}: {_shown(text)} is negative.")
    if cost > HIGHEST_AMOUNT_USD:
        raise ReconciliationError(f"{where}: {_shown(text)} is beyond {HIGHEST_AMOUNT_USD:,} USD.")
    return cost


def _nano(cost: Decimal) -> int:
    return int((cost / NANO_USD).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _shown(text: str) -> str:
    """A cell as an error repeats it."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
