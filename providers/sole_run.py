"""Work that must not run twice at the same time, in whatever process or on whatever host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum

from django.db import connection


class SoleWork(IntEnum):
    """The work there is; each number is an advisory lock of the database."""

    HEALTH_CHECK = 7094703662201
    MODEL_LISTS = 7094703662202
    AUDIT_SINKS = 7094703662203


@contextlib.contextmanager
def sole_run(work: SoleWork) -> Iterator[bool]:
    """Whether this is the only run of its kind; False: another is under way, so leave it alone.

    The lock belongs to the connection, not to a transaction: the network is waited for without one. A process that dies
    lets go of it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [work.value])
        (is_ours,) = cursor.fetchone()
    try:
        yield is_ours
    finally:
        if is_ours:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [work.value])
