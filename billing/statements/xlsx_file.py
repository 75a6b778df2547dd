"""A statement as a workbook: a summary, and every line with numbers as numbers."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from decimal import Decimal
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from billing.models import Statement
from billing.money import NANO_PER_USD
from billing.statements.documents import LINE_COLUMNS, TEXT_FIELDS, head_lines, title, total_lines

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
MODIFIED = re.compile(rb"(<dcterms:modified[^>]*>)[^<]*")
BOLD = Font(bold=True)
USD_FORMAT = "#,##0.00#######"
COUNT_FORMAT = "#,##0"
WIDTHS = {"user": 28, "model": 28, "reason": 28, "cost_nano_usd": 22}


def render_xlsx(statement: Statement) -> bytes:
    """The same bytes for the same statement. Spreadsheets count in 15 digits: the exact cost is there as text."""
    book = Workbook(write_only=True)
    book.properties.created = statement.made_at.astimezone(dt.UTC).replace(tzinfo=None)
    book.properties.creator = "Bursar"
    book.properties.title = title(statement)
    _summary(book, statement)
    _lines(book, statement)
    written = io.BytesIO()
    book.save(written)
    return _timeless(written.getvalue(), statement.made_at)


def _summary(book: Workbook, statement: Statement) -> None:
    sheet = book.create_sheet("Summary")
    sheet.column_dimensions["A"].width = 36
    sheet.column_dimensions["B"].width = 70
    sheet.append([_text(sheet, title(statement), font=BOLD)])
    for label, value in head_lines(statement):
        sheet.append([_text(sheet, label), _text(sheet, value)])
    sheet.append([])
    for label, amount in total_lines(statement):
        cell = _number(sheet, Decimal(amount.replace(",", "")), form=USD_FORMAT)
        sheet.append([_text(sheet, f"{label}, USD"), cell])


def _lines(book: Workbook, statement: Statement) -> None:
    sheet = book.create_sheet("Lines")
    headings = [heading for _, heading in LINE_COLUMNS[:-1]] + ["Cost, USD", "Cost, nano-USD, exact"]
    for number, (name, _) in enumerate([*LINE_COLUMNS, ("cost_nano_usd", "")], start=1):
        sheet.column_dimensions[get_column_letter(number)].width = WIDTHS.get(name, 16)
    sheet.freeze_panes = "A2"
    sheet.append([_text(sheet, heading, font=BOLD) for heading in headings])
    fields = [name for name, _ in LINE_COLUMNS]
    for line in statement.lines.order_by("position").values_list(*fields).iterator(chunk_size=5_000):
        cells = [
            _text(sheet, value) if name in TEXT_FIELDS else _number(sheet, value, form=COUNT_FORMAT)
            for name, value in zip(fields[:-1], line[:-1], strict=True)
        ]
        nano = line[-1]
        sheet.append([*cells, _number(sheet, Decimal(nano) / NANO_PER_USD, form=USD_FORMAT), _text(sheet, str(nano))])


def _text(sheet: Any, value: str, *, font: Font | None = None) -> Any:
    """A cell that stays text whatever it begins with: openpyxl takes "=..." for a formula otherwise."""
    cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("?", value))
    cell.data_type = "s"
    if font is not None:
        cell.font = font
    return cell


def _number(sheet: Any, value: Any, *, form: str) -> Any:
    cell = WriteOnlyCell(sheet, value)
    cell.number_format = form
    return cell


def _timeless(workbook: bytes, made_at: dt.datetime) -> bytes:
    """The same archive without the moment at which it was written."""
    stamp = f"{made_at:%Y-%m-%dT%H:%M:%SZ}".encode()
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as source, zipfile.ZipFile(result, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = MODIFIED.sub(rb"\g<1>" + stamp, content)
            target.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), content, zipfile.ZIP_DEFLATED)
    return result.getvalue()
