"""Taking a guard out of one of the ledger's functions, to show that a test would notice: the control of a race."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

ONE_END = ("ledger_settle", r"AND (billing_)?attempt\.state = 'open'")
"""What makes an attempt end once."""
HARD_CAP = ("ledger_reserve_one_by_one", "IF amount > headroom THEN", "IF false THEN")
"""What refuses a call that a hard budget has no room for."""
ORDER = (r"ORDER BY ((?:held\.)?id) FOR NO KEY UPDATE", r"ORDER BY \1 * (-1) ^ pg_backend_pid() FOR NO KEY UPDATE")
"""What makes all lock windows in one order, and a way in which neighbours lock in opposite ones."""


@contextmanager
def without(function: str, guard: str, instead: str = "") -> Iterator[None]:
    """The function without its guard (a regular expression) for all who use this database, until the block ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(%s::regproc)", [function])
        (whole,) = cursor.fetchone()
        unguarded, found = re.subn(guard, instead, whole)
        assert found == 1, f"{function} has another guard now"
        cursor.execute(unguarded)
        try:
            yield
        finally:
            cursor.execute(whole)
