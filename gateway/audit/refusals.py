"""Calls whose key was refused: one event at once, and each minute one that says how many more there were.

Anybody may send any number of them, so what they leave is bounded: at most 201 events a minute in each process, however
many calls come and from wherever.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from gateway.audit.events import EventRow, Refused
from gateway.context import Caller
from gateway.errors import GatewayError

WINDOW_SECONDS = 60.0
MOST_ORIGINS = 100
"""So many addresses and keys have events of their own each minute; what comes from others is counted together."""

Origin = tuple[object, str]


class _Counted:
    """An origin in the minute under way: its first refusal, and how many followed."""

    __slots__ = ("further", "row")

    def __init__(self, row: EventRow) -> None:
        self.row = row
        self.further = 0


class Refusals:
    """Counts refused keys and hands on what is to be written."""

    def __init__(self, put: Callable[[EventRow], None], *, window_seconds: float = WINDOW_SECONDS) -> None:
        self._put = put
        self._window_seconds = window_seconds
        self._origins: dict[Origin, _Counted] = {}
        self._others: set[Origin] = set()
        self._of_others: _Counted | None = None
        self._end: asyncio.TimerHandle | None = None

    def note(self, caller: Caller | None, error: GatewayError, *, meta: Mapping[str, Any], address: str) -> None:
        """A key was refused: one that was found has its `caller`."""
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(self._window_seconds, self.flush)
        who: object = caller.principal.key_id if caller is not None else address
        origin = (who, error.code)
        counted = self._origins.get(origin)
        if counted is not None:
            counted.further += 1
        elif len(self._origins) < MOST_ORIGINS:
            row = _row(caller, error, meta=meta, address=address)
            self._origins[origin] = _Counted(row)
            self._put(row)
        else:
            self._beyond(origin, error)

    def flush(self) -> None:
        """Tell of what followed, and begin a new minute."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        for counted in self._origins.values():
            if counted.further:
                self._put(_again(counted.row, calls=counted.further))
        if self._of_others is not None:
            self._put(_again(self._of_others.row, calls=self._of_others.further, origins=len(self._others)))
        self._origins, self._others, self._of_others = {}, set(), None

    def _beyond(self, origin: Origin, error: GatewayError) -> None:
        if self._of_others is None:
            self._of_others = _Counted(_anonymous(error))
        self._of_others.further += 1
        if len(self._others) < 100 * MOST_ORIGINS:
            self._others.add(origin)


def _row(caller: Caller | None, error: GatewayError, *, meta: Mapping[str, Any], address: str) -> EventRow:
    principal = caller.principal if caller is not None else None
    endpoint = f"{meta.get('REQUEST_METHOD', '')} {meta.get('PATH_INFO', '')}".strip()[:128]
    return EventRow(
        tenant_id=principal.tenant_id if principal is not None else None,
        happened_at=dt.datetime.now(dt.UTC),
        event="key.refused",
        actor_kind="key" if principal is not None else "nobody",
        actor_id=principal.key_id if principal is not None else None,
        actor=principal.key_name if principal is not None else "",
        address=address[:45],
        object_type="endpoint",
        object_id=endpoint,
        object_name="",
        data=Refused(error_code=error.code, message=error.message[:300], endpoint=endpoint, calls=1, origins=1),
    )


def _anonymous(error: GatewayError) -> EventRow:
    """Of many at once, about whom nothing is told but how many they were."""
    return EventRow(
        tenant_id=None,
        happened_at=dt.datetime.now(dt.UTC),
        event="key.refused",
        actor_kind="nobody",
        actor_id=None,
        actor="",
        object_type="endpoint",
        object_id="",
        object_name="many",
        data=Refused(error_code=error.code, message="", endpoint="", calls=0, origins=0),
    )


def _again(row: EventRow, *, calls: int, origins: int = 1) -> EventRow:
    told = row.data
    assert isinstance(told, Refused)
    data = Refused(
        error_code=told.error_code, message=told.message, endpoint=told.endpoint, calls=calls, origins=origins
    )
    return EventRow(
        tenant_id=row.tenant_id,
        happened_at=dt.datetime.now(dt.UTC),
        event=row.event,
        actor_kind=row.actor_kind,
        actor_id=row.actor_id,
        actor=row.actor,
        address=row.address,
        object_type=row.object_type,
        object_id=row.object_id,
        object_name=row.object_name,
        data=data,
    )
