"""What every rendering of a statement says, in words and exact figures."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from billing.models import Statement, StatementKind, StatementPeriod, StatementState
from billing.money import usd
from billing.statements.markups import percent_text

LINE_COLUMNS = (
    ("kind", "Kind"),
    ("project", "Project"),
    ("user", "User"),
    ("model", "Model"),
    ("provider", "Provider"),
    ("reason", "Reason"),
    ("calls", "Calls"),
    ("unpriced_calls", "Calls without a price"),
    ("input_tokens", "Input tokens"),
    ("output_tokens", "Output tokens"),
    ("cache_read_tokens", "Cache read tokens"),
    ("cache_write_tokens", "Cache write tokens"),
    ("reasoning_tokens", "Reasoning tokens"),
    ("cost_nano_usd", "Cost, nano-USD"),
)
"""A line's fields and their headings, in the order of every file."""

TEXT_FIELDS = frozenset({"kind", "project", "user", "model", "provider", "reason"})


def title(statement: Statement) -> str:
    """Statement S-0001-00001, or that it is a draft still."""
    kind = "Credit note" if statement.kind == StatementKind.CREDIT_NOTE else "Statement"
    return f"{kind} {statement.number}" if statement.number else f"Draft {kind.lower()}"


def period_name(statement: Statement) -> str:
    """The month or day by the tenant's clocks: October 2026, or 31 October 2026."""
    day = statement.starts_at.astimezone(ZoneInfo(statement.timezone)).date()
    if statement.period == StatementPeriod.MONTH:
        return f"{day:%B %Y}"
    return f"{day.day} {day:%B %Y}"


def period_bounds(statement: Statement) -> str:
    """From when to before when, by the tenant's clocks, with their distance from UTC."""
    zone = ZoneInfo(statement.timezone)
    start, end = (_local(moment, zone) for moment in (statement.starts_at, statement.ends_at))
    return f"{start} to {end}, {statement.timezone}"


def status(statement: Statement) -> str:
    """Draft, or when it was issued."""
    if statement.state == StatementState.DRAFT or statement.issued_at is None:
        return "Draft, may still change"
    return f"{statement.get_state_display()}, of {statement.issued_at:%Y-%m-%d}"


def total_lines(statement: Statement) -> list[tuple[str, str]]:
    """From the ledger's sum to what is owed, each with its exact amount in USD."""
    markup = statement.markup_basis_points
    name = "Discount" if markup < 0 else "Markup"
    return [
        ("Subtotal, at cost as in the ledger", usd(statement.subtotal_nano_usd)),
        (f"{name} {percent_text(markup)}", usd(statement.markup_nano_usd)),
        ("Rounding to cents", usd(statement.rounding_nano_usd)),
        ("Total", cents(statement.total_cents)),
    ]


def cents(amount: int) -> str:
    """Cents as USD, always with two places."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100:,}.{abs(amount) % 100:02d}"


def head_lines(statement: Statement) -> list[tuple[str, str]]:
    """Who, when and which, for the top of every file."""
    head = [
        ("Tenant", statement.tenant_name),
        ("Period", period_name(statement)),
        ("From, to before", period_bounds(statement)),
        ("Status", status(statement)),
    ]
    if statement.credits is not None:
        head.append(("Credits", statement.credits.number))
    if statement.reason:
        head.append(("Reason", statement.reason))
    return [*head, ("Content hash, SHA-256", statement.content_hash)]


def file_name(statement: Statement, extension: str) -> str:
    """A name for a download; tenants' names and numbers are letters, digits, dots and dashes."""
    begins = statement.starts_at.astimezone(ZoneInfo(statement.timezone))
    which = statement.number or f"draft-{begins:%Y-%m-%d}"
    return f"{statement.tenant_name}-{which}.{extension}"


def _local(moment: dt.datetime, zone: ZoneInfo) -> str:
    offset = f"{moment.astimezone(zone):%z}"
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M} {offset[:3]}:{offset[3:]}"
