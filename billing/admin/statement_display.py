"""A statement's figures as tables of its page."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing.models import Statement, StatementState
from billing.money import usd
from billing.statements.breakdowns import Breakdown, breakdowns, other_lines
from billing.statements.documents import cents, total_lines


def figures_table(statement: Statement) -> SafeString:
    """From the ledger's sum to what is owed."""
    rows = format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", total_lines(statement))
    return format_html('<table class="figures amounts">{}</table>', rows)


def breakdown_tables(statement: Statement) -> SafeString:
    """Usage by model, project and user, and what is no usage; models lead to their calls."""
    tables = format_html_join("", "{}", ((_table(statement, one),) for one in breakdowns(statement)))
    others = format_html_join(
        "",
        "<tr><th>{}</th><td class='words'>{}</td><td>{}</td></tr>",
        ((about, reason, usd(cost)) for about, reason, cost in other_lines(statement)),
    )
    if not others:
        return tables
    return format_html(
        '{}<table class="figures breakdown"><tr><th>Adjustments and credits</th><th class="words">Reason</th>'
        "<th>Cost, USD</th></tr>{}</table>",
        tables,
        others,
    )


def credit_note_links(statement: Statement) -> SafeString:
    """The credit notes that take off this statement. One query."""
    notes = statement.credit_notes.exclude(state=StatementState.DRAFT).order_by("sequence")
    rows = [
        (reverse("admin:billing_statement_change", args=[note.pk]), note.number, cents(note.total_cents))
        for note in notes
    ]
    return format_html_join(", ", '<a href="{}">{}</a> ({} USD)', rows) or format_html("{}", "none")


def _table(statement: Statement, breakdown: Breakdown) -> SafeString:
    is_of_models = breakdown.title == "By model"
    rows = format_html_join(
        "",
        "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        (
            (
                _calls_link(statement, row.name) if is_of_models and " at " in row.name else row.name,
                f"{row.calls:,}",
                f"{row.input_tokens:,}",
                f"{row.output_tokens:,}",
                usd(row.cost_nano_usd),
            )
            for row in breakdown.rows
        ),
    )
    return format_html(
        '<table class="figures breakdown"><tr><th>{}</th><th>Calls</th><th>Tokens in</th><th>Tokens out</th>'
        "<th>Cost, USD</th></tr>{}</table>",
        breakdown.title,
        rows,
    )


def _calls_link(statement: Statement, name: str) -> SafeString:
    """To the calls that a line is of: whole UTC days, so a few more than the line has."""
    model, _, provider = name.rpartition(" at ")
    last = statement.ends_at - dt.timedelta(microseconds=1)
    query = {
        "tenant__id__exact": statement.tenant_id,
        "model_name": model,
        "provider_name": provider,
        "created_at_from": f"{statement.starts_at:%Y-%m-%d}",
        "created_at_to": f"{last:%Y-%m-%d}",
    }
    return format_html(
        '<a href="{}?{}">{}</a>', reverse("admin:billing_usagerecord_changelist"), urlencode(query), name
    )
