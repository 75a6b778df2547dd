"""Do the books balance? Each check is one query that finds the rows that break an invariant."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

EXAMPLES = 5


@dataclass(frozen=True)
class Check:
    """An invariant, and the query whose rows break it; the first column says which row."""

    name: str
    says: str
    breaches: str


CHECKS = (
    Check(
        "M1 hard cap",
        "What a hard window has spent and holds is within the limit it was admitted under, plus recorded overruns.",
        """SELECT held.id, held.spent_nano_usd + held.reserved_nano_usd AS used, held.ceiling_nano_usd
        FROM billing_budgetwindow held JOIN billing_budget budget ON budget.id = held.budget_id
        WHERE budget.hard
            AND held.spent_nano_usd + held.reserved_nano_usd > held.ceiling_nano_usd + held.overrun_nano_usd""",
    ),
    Check(
        "M3 one end",
        "An attempt has a charge exactly when it is settled.",
        """SELECT attempt.id, attempt.state FROM billing_attempt attempt
        FULL JOIN billing_usagerecord charge ON charge.attempt_id = attempt.id
        WHERE (attempt.state = 'settled') IS DISTINCT FROM (charge.attempt_id IS NOT NULL)""",
    ),
    Check(
        "M4 spent",
        "A window has spent what the attempts held in it were charged.",
        """SELECT held.id, held.spent_nano_usd, coalesce(charged.total, 0)
        FROM billing_budgetwindow held LEFT JOIN (
            SELECT window_id, sum(charge.cost_nano_usd) AS total
            FROM billing_attempt attempt JOIN billing_usagerecord charge ON charge.attempt_id = attempt.id,
                unnest(attempt.windows) AS window_id GROUP BY window_id) charged ON charged.window_id = held.id
        WHERE held.spent_nano_usd <> coalesce(charged.total, 0)""",
    ),
    Check(
        "M4 reserved",
        "A window holds what its open attempts may cost.",
        """SELECT held.id, held.reserved_nano_usd, coalesce(open.total, 0)
        FROM billing_budgetwindow held LEFT JOIN (
            SELECT window_id, sum(attempt.reserved_nano_usd) AS total
            FROM billing_attempt attempt, unnest(attempt.windows) AS window_id
            WHERE attempt.state = 'open' GROUP BY window_id) open ON open.window_id = held.id
        WHERE held.reserved_nano_usd <> coalesce(open.total, 0)""",
    ),
    Check(
        "M5 no nonsense",
        "No charge is negative, and none counts what cannot be.",
        """SELECT attempt_id, cost_nano_usd, units FROM billing_usagerecord
        WHERE cost_nano_usd < 0 OR input_tokens < 0 OR output_tokens < 0
            OR EXISTS (SELECT FROM jsonb_each_text(units) AS unit WHERE unit.value::numeric < 0)""",
    ),
)


@dataclass(frozen=True)
class Finding:
    """How a check went: how many rows break it, and the first few."""

    check: Check
    breaches: int
    examples: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Exposure:
    """What a provider may ask for calls whose process died without leaving a trace of what became of them."""

    provider_name: str
    attempts: int
    bound_nano_usd: int


def exposures() -> list[Exposure]:
    """The calls that tenants were not charged for because nobody knows what they cost. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT attempt.provider_name, count(*), sum(attempt.reserved_nano_usd)::bigint
            FROM billing_usagerecord charge JOIN billing_attempt attempt ON attempt.id = charge.attempt_id
            WHERE charge.usage_source = 'unknown' GROUP BY 1 ORDER BY 1"""
        )
        return [Exposure(*row) for row in cursor.fetchall()]


def verify() -> list[Finding]:
    """Run every check over one snapshot of the books."""
    findings = []
    with connection.cursor() as cursor:
        for check in CHECKS:
            cursor.execute(f"SELECT count(*) FROM ({check.breaches}) AS breach")  # noqa: S608 -- our own constants
            breaches = int(cursor.fetchone()[0])
            cursor.execute(f"{check.breaches} LIMIT {EXAMPLES}" if breaches else "SELECT WHERE false")
            findings.append(Finding(check, breaches, tuple(cursor.fetchall()) if breaches else ()))
    return findings
