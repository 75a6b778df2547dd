"""Whether a call that is to be made later could be paid for now. Nothing is held: that happens when it is made."""

from __future__ import annotations

import msgspec
from django.db import connection

from billing.entries import Reservation
from billing.errors import Refusal

_QUESTION = """
SELECT budget.scope, hold.subject, budget.period, ceiling.nano_usd, coalesce(known.spent_nano_usd, 0),
    coalesce(known.reserved_nano_usd, 0), hold.ends_at
FROM jsonb_to_recordset(%s::jsonb) AS hold(budget_id bigint, subject text, starts_at timestamptz, ends_at timestamptz)
JOIN billing_budget budget ON budget.id = hold.budget_id AND budget.hard
LEFT JOIN billing_budgetwindow known ON known.budget_id = hold.budget_id AND known.subject = hold.subject
    AND known.starts_at = hold.starts_at
CROSS JOIN LATERAL (
    SELECT budget.limit_nano_usd + coalesce(sum(extra.extra_nano_usd), 0)::bigint AS nano_usd
    FROM billing_budgetoverride extra WHERE extra.budget_id = budget.id AND extra.expires_at > now()) ceiling
ORDER BY budget.id
"""


def refusal(asked: Reservation) -> Refusal | None:
    """The hard budget that has no room for it now; None where all have. One query."""
    if not asked.holds:
        return None
    tokens = asked.max_output_tokens or 0
    if asked.may_shrink:
        tokens = min(tokens, asked.smallest_output_tokens)
    needed = asked.fixed_nano_usd + -(-asked.output_pico_usd * tokens // 1000)
    with connection.cursor() as cursor:
        cursor.execute(_QUESTION, [msgspec.json.encode(asked.holds).decode()])
        for scope, subject, period, limit, spent, reserved, resets_at in cursor.fetchall():
            if spent + reserved + needed > limit:
                return Refusal(
                    scope=scope,
                    subject=subject,
                    period=period,
                    limit_nano_usd=limit,
                    spent_nano_usd=spent,
                    reserved_nano_usd=reserved,
                    needed_nano_usd=needed,
                    resets_at=resets_at,
                )
    return None
