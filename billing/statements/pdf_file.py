"""A statement as PDF: one page with what is owed, then tables of what it is made of."""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from billing.models import Statement, StatementState
from billing.money import usd
from billing.statements.breakdowns import Breakdown, breakdowns, other_lines
from billing.statements.documents import cents, head_lines, title, total_lines

INK, GREY, PALE, BLUE = HexColor("#1f2937"), HexColor("#6b7280"), HexColor("#f3f4f6"), HexColor("#1d4ed8")
MARGIN = 20 * mm
PADDING = 6
"""What a page's frame keeps free on each side, in points."""

WIDTH = A4[0] - 2 * MARGIN - 2 * PADDING
LONGEST_NAME = 48

BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=9, leading=12, textColor=INK)
RIGHT = ParagraphStyle("right", BODY, alignment=TA_RIGHT)
LABEL = ParagraphStyle("label", BODY, textColor=GREY)
HASH = ParagraphStyle("hash", BODY, fontName="Courier", fontSize=7.5)
NAME = ParagraphStyle("name", BODY, fontName="Helvetica-Bold", fontSize=20, leading=26)
HEADING = ParagraphStyle(
    "heading", BODY, fontName="Helvetica-Bold", fontSize=12, leading=16, spaceBefore=14, spaceAfter=4
)
TOTAL = ParagraphStyle("total", RIGHT, fontName="Helvetica-Bold", fontSize=16, leading=20)
TOTAL_LABEL = ParagraphStyle("total_label", BODY, fontName="Helvetica-Bold", fontSize=12, leading=20)


def render_pdf(statement: Statement) -> bytes:
    """The same bytes for the same statement: no moment of printing, and no compression, which differs by library."""
    written = io.BytesIO()
    document = SimpleDocTemplate(
        written,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        title=f"{title(statement)}, {statement.tenant_name}",
        author="Bursar",
        invariant=1,
        pageCompression=0,
    )
    document.build(_story(statement), canvasmaker=_canvas_for(statement))
    return written.getvalue()


def _story(statement: Statement) -> list[Flowable]:
    tables: list[Flowable] = [part for one in breakdowns(statement) for part in _breakdown(one)]
    others = other_lines(statement)
    if others:
        tables += [_text("Adjustments and credits", HEADING), _others(others)]
    return [*_summary(statement), PageBreak(), *tables]


def _summary(statement: Statement) -> list[Flowable]:
    head = [
        [_text(label, LABEL), _text(value, HASH if label.startswith("Content") else BODY)]
        for label, value in head_lines(statement)
    ]
    *lines, (total_label, total) = total_lines(statement)
    rows = [[_text(label, BODY), _text(f"{amount} USD", RIGHT)] for label, amount in lines]
    rows.append([_text(total_label, TOTAL_LABEL), _text(f"{total} USD", TOTAL)])
    amounts = Table(rows, colWidths=[WIDTH * 0.6, WIDTH * 0.4])
    amounts.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, -2), 0.4, PALE),
                ("LINEABOVE", (0, -1), (-1, -1), 1, INK),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 0),
            ]
        )
    )
    facts = Table(head, colWidths=[40 * mm, WIDTH - 40 * mm])
    facts.setStyle(TableStyle([("LEFTPADDING", (0, 0), (-1, -1), 0), ("VALIGN", (0, 0), (-1, -1), "TOP")]))
    return [
        _text(title(statement), NAME),
        Spacer(1, 6 * mm),
        facts,
        Spacer(1, 10 * mm),
        amounts,
        Spacer(1, 8 * mm),
        *_remarks(statement),
    ]


def _remarks(statement: Statement) -> list[Flowable]:
    remarks = [
        "Amounts are in USD. An entry belongs to the period in which it was posted. The CSV and XLSX files have "
        "every project, user, model and provider, to the billionth of a USD."
    ]
    if statement.calls:
        remarks.insert(0, f"{statement.calls:,} calls.")
    if statement.unpriced_calls:
        remarks.insert(1, f"{statement.unpriced_calls:,} of them had no price and are at no cost.")
    return [_text(" ".join(remarks), LABEL)]


def _breakdown(breakdown: Breakdown) -> list[Flowable]:
    rows = [
        [
            _text(row.name, BODY),
            *(f"{figure:,}" for figure in (row.calls, row.input_tokens, row.output_tokens)),
            usd(row.cost_nano_usd),
        ]
        for row in breakdown.rows
    ]
    headings = ["", "Calls", "Tokens in", "Tokens out", "Cost, USD"]
    table = Table(
        [headings, *rows], colWidths=[WIDTH * share for share in (0.34, 0.12, 0.16, 0.16, 0.22)], repeatRows=1
    )
    table.setStyle(_table_style())
    return [_text(breakdown.title, HEADING), table]


def _others(lines: list[tuple[str, str, int]]) -> Table:
    rows = [[_text(about, BODY), _text(reason, BODY), usd(cost)] for about, reason, cost in lines]
    table = Table(
        [["", "Reason", "Cost, USD"], *rows], colWidths=[WIDTH * 0.3, WIDTH * 0.48, WIDTH * 0.22], repeatRows=1
    )
    style = _table_style()
    style.add("ALIGN", (1, 0), (1, -1), "LEFT")
    table.setStyle(style)
    return table


def _table_style() -> TableStyle:
    return TableStyle(
        [
            ("FONT", (0, 0), (-1, -1), "Helvetica", 8.5),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 8),
            ("TEXTCOLOR", (0, 0), (-1, 0), GREY),
            ("TEXTCOLOR", (0, 1), (-1, -1), INK),
            ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
            ("ROWBACKGROUNDS", (0, 1), (-1, -1), [None, PALE]),
        ]
    )


def _text(text: str, style: ParagraphStyle) -> Paragraph:
    """A paragraph of plain text. PDF's own fonts have Western letters only; the other files have names as they are."""
    shown = text if style is not BODY or len(text) <= LONGEST_NAME * 4 else f"{text[: LONGEST_NAME * 4]}..."
    printable = "".join(character if character.isprintable() else "?" for character in shown)
    return Paragraph(escape(printable.encode("cp1252", "replace").decode("cp1252")), style)


def _canvas_for(statement: Statement) -> type[Canvas]:
    """A canvas whose every page says which statement it is of, and which page of how many."""
    owed = f"{title(statement)} · {statement.tenant_name} · {cents(statement.total_cents)} USD"

    class NumberedCanvas(Canvas):
        """Keeps its pages until their number is known."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._kept: list[dict[str, Any]] = []

        def showPage(self) -> None:
            self._kept.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for page, state in enumerate(self._kept, start=1):
                self.__dict__.update(state)
                _furnish(self, footer=owed, page=page, pages=len(self._kept), draft=is_draft)
                super().showPage()
            super().save()

    is_draft = statement.state == StatementState.DRAFT
    return NumberedCanvas


def _furnish(canvas: Canvas, *, footer: str, page: int, pages: int, draft: bool) -> None:
    canvas.setFillColor(BLUE)
    canvas.rect(0, A4[1] - 4 * mm, A4[0], 4 * mm, stroke=0, fill=1)
    if draft:
        canvas.setFont("Helvetica-Bold", 14)
        canvas.drawRightString(A4[0] - MARGIN - PADDING, A4[1] - 13 * mm, "DRAFT")
    canvas.setFillColor(GREY)
    canvas.setFont("Helvetica", 8)
    canvas.drawString(MARGIN + PADDING, 10 * mm, footer)
    canvas.drawRightString(A4[0] - MARGIN - PADDING, 10 * mm, f"Page {page} of {pages}")
