"""Each run of `manage.py verify_money` is kept, and says what broke."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.models import BooksCheck, Budget, BudgetWindow
from tests.factories import make_tenant


@pytest.mark.django_db(transaction=True)
def test_a_run_is_kept_whether_the_books_balance_or_not() -> None:
    said = StringIO()
    call_command("verify_money", stdout=said)
    assert "The books balance." in said.getvalue()
    first = BooksCheck.objects.get()
    assert (first.ok, first.findings) == (True, [])

    budget = Budget.objects.create(tenant=make_tenant(), limit_nano_usd=10)
    window = BudgetWindow.objects.create(budget=budget, starts_at=timezone.now(), spent_nano_usd=5, ceiling_nano_usd=10)
    with pytest.raises(CommandError, match="do not balance"):
        call_command("verify_money", stdout=said)
    newest = BooksCheck.objects.first()
    assert newest is not None and not newest.ok and newest.at >= first.at
    (finding,) = newest.findings
    assert (finding["check"], finding["breaches"], finding["examples"]) == ("M4 spent", 1, [[str(window.pk), "5", "0"]])
    assert "charged" in finding["says"]
