"""A statement as CSV: every line, exact, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io

from billing.models import Statement
from billing.statements.documents import LINE_COLUMNS, TEXT_FIELDS, head_lines, title, total_lines

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What spreadsheets take for the beginning of a formula. Names of users are the clients' to choose."""


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def render_csv(statement: Statement) -> bytes:
    """The lines, then an empty line, then head and totals: UTF-8 with CRLF. One query over the lines."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(name for name, _ in LINE_COLUMNS)
    fields = [name for name, _ in LINE_COLUMNS]
    for line in statement.lines.order_by("position").values_list(*fields).iterator(chunk_size=5_000):
        writer.writerow(
            harmless(value) if name in TEXT_FIELDS else value for name, value in zip(fields, line, strict=True)
        )
    writer.writerow(())
    for label, value in [("Document", title(statement)), *head_lines(statement)]:
        writer.writerow((harmless(label), harmless(value)))
    for label, amount in total_lines(statement):
        writer.writerow((harmless(f"{label}, USD"), amount.replace(",", "")))
    return text.getvalue().encode()
