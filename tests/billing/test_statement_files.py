"""Statements as CSV, XLSX and PDF: exact, harmless, and the same bytes whenever they are asked for."""

from __future__ import annotations

import csv
import datetime as dt
import io
from decimal import Decimal

import pytest
from openpyxl import load_workbook

from billing.models import Statement, StatementSchedule
from billing.statements.credit_notes import Credit, credit
from billing.statements.csv_file import render_csv
from billing.statements.nightly import make_due_statements
from billing.statements.pdf_file import render_pdf
from billing.statements.xlsx_file import render_xlsx
from tenants.models import Tenant
from tests.billing.statement_seeding import post
from tests.factories import make_tenant

POSTED = dt.datetime(2024, 1, 10, tzinfo=dt.UTC)
NASTY = (
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "plain", '"quoted", and more', "zeile\nzwei",
    "ключ",
)  # fmt: skip
RENDERERS = (render_csv, render_xlsx, render_pdf)


@pytest.fixture
def statement(db: None) -> Statement:
    tenant = make_tenant("acme", timezone="Asia/Kathmandu")
    for place, user in enumerate(NASTY):
        post(tenant, POSTED, user=user, cost_nano_usd=1_234_567_890_123 + place, model_name="chatty")
    (made,) = make_due_statements(tenant.pk)
    return made.statement


@pytest.mark.parametrize("render", RENDERERS)
def test_the_same_statement_is_the_same_bytes(render: object, statement: Statement) -> None:
    once = render(statement)  # type: ignore[operator]
    assert render(Statement.objects.get(pk=statement.pk)) == once  # type: ignore[operator]


def test_csv_has_every_line_exactly_and_no_formula(statement: Statement) -> None:
    rows = list(csv.reader(io.StringIO(render_csv(statement).decode(), newline="")))
    end = rows.index([])
    heading, lines, rest = rows[0], rows[1:end], dict(rows[end + 1 :])
    assert len(lines) == len(NASTY)
    assert sum(int(line[heading.index("cost_nano_usd")]) for line in lines) == statement.subtotal_nano_usd
    users = {line[heading.index("user")] for line in lines}
    assert users == {f"'{user}" if user[0] in "=+-@\t\r" else user for user in NASTY}
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for row in rows for cell in row)
    assert Decimal(rest["Total, USD"]) * 100 == statement.total_cents
    assert rest["Content hash, SHA-256"] == statement.content_hash


def test_xlsx_has_numbers_as_numbers_and_formulas_nowhere(statement: Statement) -> None:
    book = load_workbook(io.BytesIO(render_xlsx(statement)))
    heading, *lines = book["Lines"].iter_rows()
    names = [cell.value for cell in heading]
    exact, cost, user, calls = (names.index(name) for name in ("Cost, nano-USD, exact", "Cost, USD", "User", "Calls"))
    assert sum(int(line[exact].value) for line in lines) == statement.subtotal_nano_usd
    assert all(line[cost].data_type == line[calls].data_type == "n" for line in lines)
    assert {line[user].data_type for line in lines} == {"s"}
    assert {line[user].value.replace("\r", "\n") for line in lines} >= {"=cmd|' /C calc'!A0", "+1+1", "ключ"}
    summary = {row[0].value: row[1].value for row in book["Summary"].iter_rows(min_row=2) if row[0].value}
    assert Decimal(str(summary["Total, USD"])) * 100 == statement.total_cents


def test_control_characters_do_not_break_a_workbook(db: None) -> None:
    tenant = make_tenant()
    post(tenant, POSTED, user="a\x01b\x1f")
    (made,) = make_due_statements(tenant.pk)
    (line,) = list(load_workbook(io.BytesIO(render_xlsx(made.statement)))["Lines"].iter_rows(min_row=2))
    assert line[2].value == "a?b?"
    assert render_pdf(made.statement).startswith(b"%PDF")


def test_pdf_says_who_when_which_and_how_much(statement: Statement) -> None:
    content = render_pdf(statement)
    assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")
    for said in (
        f"Statement {statement.number}", "acme", "January 2024", "Asia/Kathmandu", "12,345.68 USD", "Page 1 of 2",
        "Page 2 of 2", statement.content_hash, "chatty at p", "12345.678901275",
    ):  # fmt: skip
        assert said.encode("cp1252") in content, said
    assert b"DRAFT" not in content


def test_a_draft_says_so(db: None) -> None:
    tenant = make_tenant()
    StatementSchedule.objects.create(tenant=tenant, issues_by_itself=False)
    post(tenant, POSTED)
    (made,) = make_due_statements(tenant.pk)
    assert b"(DRAFT)" in render_pdf(made.statement)
    assert "Draft, may still change" in render_csv(made.statement).decode()


def test_many_users_are_folded_on_paper_only(db: None) -> None:
    tenant: Tenant = make_tenant()
    for place in range(60):
        post(tenant, POSTED, user=f"user-{place}", cost_nano_usd=1_000_000_000 + place)
    (made,) = make_due_statements(tenant.pk)
    content = render_pdf(made.statement)
    assert b"21 others" in content and b"21.00000021" in content, "the sum of the cheapest"
    assert render_csv(made.statement).count(b"user-") == 60


def test_a_credit_note_has_files_of_its_own(statement: Statement) -> None:
    note = credit(statement.pk, [Credit(amount_nano_usd=10**9, reason="<b>a fault</b> & more")], by=None)
    content = render_pdf(note)
    for said in (f"Credit note {note.number}", statement.number, "-1.00 USD", "a fault"):
        assert said.encode() in content, said
    assert f"Credits,{statement.number}" in render_csv(note).decode()
    assert load_workbook(io.BytesIO(render_xlsx(note)))["Lines"]["N2"].value == -1
