"""The usage explorer's table as a file: the rows and figures of the page, all of them, as numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from billing.money import plain
from billing.statements.csv_file import harmless
from gateway.desk.scales import Number
from gateway.desk.usage_measures import COLUMNS
from gateway.desk.usage_tables import Answer, Row

CSV_TYPE = "text/csv; charset=utf-8"
XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

Facts = list[tuple[str, str]]
"""What was asked, and how far the sums are: below the rows."""


def as_csv(title: str, answer: Answer, *, facts: Facts) -> bytes:
    """UTF-8 with CRLF; nothing in it is taken for a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([title, *(heading for heading, _ in COLUMNS)])
    for row in _lines(answer):
        writer.writerow([harmless(row.name), *(_written(figure) for figure in row.figures)])
    writer.writerow(())
    writer.writerows((label, harmless(fact)) for label, fact in facts)
    return text.getvalue().encode()


def as_xlsx(title: str, answer: Answer, *, facts: Facts) -> bytes:
    """A workbook with one sheet, figures as numbers. Spreadsheets count in 15 digits."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Usage")
    sheet.freeze_panes = "B2"
    sheet.column_dimensions["A"].width = 40

    def words(text: str) -> Any:
        cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("?", text))
        cell.data_type = "s"  # openpyxl takes "=..." for a formula otherwise
        return cell

    sheet.append([words(heading) for heading in (title, *(heading for heading, _ in COLUMNS))])
    for row in _lines(answer):
        sheet.append([words(row.name), *row.figures])
    sheet.append([])
    for label, fact in facts:
        sheet.append([words(label), words(fact)])
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def _written(figure: Number | None) -> str:
    return "" if figure is None else str(figure) if isinstance(figure, int) else plain(figure)


def _lines(answer: Answer) -> Iterator[Row]:
    yield from answer.rows
    yield answer.total
