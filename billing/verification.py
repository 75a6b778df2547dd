"""Do the books balance? Each check is one query that finds the rows that break an invariant."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from billing.usage_sums import FIGURES

EXAMPLES = 5


@dataclass(frozen=True)
class Check:
    """An invariant, and the query whose rows break it; the first column says which row."""

    name: str
    says: str
    breaches: str


BUCKET_KEY = ("tenant_id", "project_id", "api_key_id", "model_name", "provider_name", "ending")


def _differences(days: str, parts: str, *, key: tuple[str, ...]) -> str:
    """The days' buckets that are not the sums of their parts, in the months that are kept."""
    names, figures = ", ".join(key), ", ".join(FIGURES)
    return f"""SELECT day, {names}, {", ".join(f"sum({figure})" for figure in FIGURES)} FROM (
            SELECT starts_at AS day, {names}, {figures} FROM {days} WHERE starts_at >= ledger_kept_from()
            UNION ALL
            SELECT date_trunc('day', starts_at, 'UTC'), {names}, {", ".join(f"-sum({figure})" for figure in FIGURES)}
            FROM {parts} WHERE starts_at >= ledger_kept_from() GROUP BY 1, {names}) AS difference
        GROUP BY day, {names} HAVING {" OR ".join(f"sum({figure}) <> 0" for figure in FIGURES)}"""  # noqa: S608 -- our own constants


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
        "A window has spent what the attempts held in it were charged, adjustments included, dropped months archived.",
        """SELECT held.id, held.spent_nano_usd, held.archived_nano_usd + coalesce(charged.total, 0)
        FROM billing_budgetwindow held LEFT JOIN (
            SELECT window_id, sum(posted.nano_usd) AS total
            FROM (SELECT attempt.windows, charge.cost_nano_usd AS nano_usd
                FROM billing_attempt attempt JOIN billing_usagerecord charge ON charge.attempt_id = attempt.id
                UNION ALL SELECT windows, amount_nano_usd FROM billing_adjustment) AS posted,
                unnest(posted.windows) AS window_id GROUP BY window_id) charged ON charged.window_id = held.id
        WHERE held.spent_nano_usd <> held.archived_nano_usd + coalesce(charged.total, 0)""",
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
    Check(
        "M5 no gift",
        "No charge was credited more than it was.",
        """SELECT charge.attempt_id, charge.cost_nano_usd, adjusted.total
        FROM (SELECT attempt_id, sum(amount_nano_usd) AS total FROM billing_adjustment GROUP BY attempt_id) AS adjusted
        JOIN billing_usagerecord charge ON charge.attempt_id = adjusted.attempt_id
        WHERE charge.cost_nano_usd + adjusted.total < 0""",
    ),
    Check(
        "rollup days",
        "A day's buckets are the sums of its charges and adjustments.",
        _differences("billing_usageday", "billing_entry", key=BUCKET_KEY),
    ),
    Check(
        "rollup hours",
        "A day's hours come to the same as the day.",
        _differences("billing_usageday", "billing_usagehour", key=BUCKET_KEY),
    ),
    Check(
        "rollup users",
        "A user's days are the sums of the user's charges and adjustments.",
        _differences("billing_userday", "billing_entry", key=("tenant_id", '"user"')),
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
            WHERE charge.usage_source = 'unknown'
                AND NOT EXISTS (SELECT FROM billing_adjustment late WHERE late.attempt_id = attempt.id)
            GROUP BY 1 ORDER BY 1"""
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
