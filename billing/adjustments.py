"""Money moved after the fact: an entry of its own with a reason, because a charge never changes."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from django.db import IntegrityError, connection, transaction
from django.db.models import Sum
from django.utils import timezone

from billing import sql
from billing.budgets import window_of
from billing.errors import AdjustmentError
from billing.models import Adjustment, AdjustmentKind, Attempt, Budget, BudgetWindow, Scope, UsageRecord
from billing.models.budgets import HIGHEST_LIMIT_NANO_USD
from billing.money import nano_from_usd, usd
from tenants.models import Operator, Tenant

LONGEST_REASON = 500


def read_amount(text: str) -> int:
    """An amount as people type it, in USD, a credit with a minus, as nano-USD. Raises `AdjustmentError`."""
    digits = text.strip()
    try:
        amount = nano_from_usd(digits.removeprefix("-"))
    except ValueError as error:
        raise AdjustmentError(str(error)) from error
    return -amount if digits.startswith("-") else amount


def adjust_charge(charge: UsageRecord, amount_nano_usd: int, *, reason: str, by: Operator | None) -> Adjustment:
    """Add to a charge, or credit some of it, in the windows it was spent in. Raises `AdjustmentError`.

    Never more is credited than is left of it, however many operators try at once.
    """
    _check(amount_nano_usd, reason)
    with transaction.atomic():
        attempt = Attempt.objects.select_for_update(no_key=True).get(pk=charge.attempt_id)
        adjusted = Adjustment.objects.filter(attempt=attempt).aggregate(total=Sum("amount_nano_usd", default=0))
        left = charge.cost_nano_usd + int(adjusted["total"])
        if left + amount_nano_usd < 0:
            raise AdjustmentError(f"Of this charge {usd(left)} USD are left: no more can be credited.")
        return _post(
            {
                "tenant_id": charge.tenant_id,
                "attempt_id": attempt.pk.hex,
                "windows": attempt.windows,
                "project_id": charge.project_id,
                "api_key_id": charge.api_key_id,
                "user": charge.user,
                "model_name": charge.model_name,
                "provider_name": charge.provider_name,
            },
            amount_nano_usd,
            reason=reason,
            by=by,
        )


def adjust_tenant(tenant: Tenant, amount_nano_usd: int, *, reason: str, by: Operator | None) -> Adjustment:
    """Charge or credit a tenant for no call in particular. Raises `AdjustmentError`.

    It moves the windows under way of the budgets of the whole tenant: of no project, user, key, model or provider can
    be said that it was theirs.
    """
    _check(amount_nano_usd, reason)
    with transaction.atomic():
        about = {"user": "", "model_name": "", "provider_name": ""}
        return _post(
            {"tenant_id": tenant.pk, "windows": _windows_now(tenant), **about}, amount_nano_usd, reason=reason, by=by
        )


def adjust_past(tenant: Tenant, amount_nano_usd: int, *, reason: str, by: Operator | None) -> Adjustment:
    """Charge or credit a tenant for a time that is over. Raises `AdjustmentError`.

    No budget's window moves: those of that time admit no call any more, and those under way have not spent it.
    """
    _check(amount_nano_usd, reason)
    about = {"user": "", "model_name": "", "provider_name": ""}
    return _post({"tenant_id": tenant.pk, "windows": [], **about}, amount_nano_usd, reason=reason, by=by)


def _check(amount_nano_usd: int, reason: str) -> None:
    if not amount_nano_usd:
        raise AdjustmentError("Adjust by more than nothing.")
    if abs(amount_nano_usd) > HIGHEST_LIMIT_NANO_USD:
        raise AdjustmentError(f"{usd(amount_nano_usd)} USD is beyond {usd(HIGHEST_LIMIT_NANO_USD)}.")
    if not reason.strip():
        raise AdjustmentError("Say why: the reason stays with the adjustment.")
    if len(reason.strip()) > LONGEST_REASON:
        raise AdjustmentError(f"A reason has at most {LONGEST_REASON} characters.")


def _post(about: dict[str, Any], amount_nano_usd: int, *, reason: str, by: Operator | None) -> Adjustment:
    row = {
        "id": uuid4().hex,
        "kind": AdjustmentKind.ADJUSTMENT.value,
        "amount_nano_usd": amount_nano_usd,
        "reason": reason.strip(),
        "created_by_id": by.pk if by is not None else None,
        **about,
    }
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql.ADJUST, [json.dumps([row])])
    except IntegrityError as error:
        if "budget_window_not_negative" not in str(error):
            raise
        raise AdjustmentError("A budget's window would have spent less than nothing: credit less.") from error
    return Adjustment.objects.get(pk=row["id"])


def _windows_now(tenant: Tenant) -> list[int]:
    """Opened where nothing was spent yet, as a call would."""
    now, zone = timezone.now(), ZoneInfo(tenant.timezone)
    windows = []
    for budget in Budget.objects.filter(tenant=tenant, scope=Scope.TENANT, enabled=True).order_by("pk"):
        starts_at, ends_at = window_of(budget.period, now, zone=zone)
        window, _ = BudgetWindow.objects.get_or_create(
            budget=budget, subject="", starts_at=starts_at, defaults={"ends_at": ends_at}
        )
        windows.append(window.pk)
    return windows
