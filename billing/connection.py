"""One PostgreSQL connection that runs one prepared statement at a time, from the event loop.

psycopg opens it and its own libpq binding (`psycopg.pq`) drives it: the statement text is sent and converted once, then
each call is one message out and one readiness callback in. That is a third of the CPU of `AsyncConnection.execute`,
which is what every chat call would pay twice.
"""

from __future__ import annotations

import asyncio

import psycopg
from psycopg import pq

from billing.fault_points import fault_point

CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_MS = 2000
LOCK_TIMEOUT_MS = 1000
REPLY_TIMEOUT_SECONDS = 3.0
"""A server that does not even say that its statement timed out is gone."""

CONNECTION_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError, OSError, TimeoutError)
RETRYABLE_SQLSTATES = frozenset({"40P01", "40001", "55P03", "57014"})
"""Deadlock, serialization failure, lock timeout, statement timeout: the same rows may pass the next time."""


class StatementError(Exception):
    """The server refused a statement; `sqlstate` says why."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    @property
    def may_retry(self) -> bool:
        """Whether the same rows may pass at another moment."""
        return self.sqlstate in RETRYABLE_SQLSTATES or self.sqlstate.startswith(("08", "53", "57P"))


class StatementConnection:
    """Runs the statements it was given, by name; reopens itself after a failure. Not for concurrent use."""

    def __init__(
        self,
        conninfo: str,
        statements: dict[str, str],
        *,
        application_name: str = "bursar-ledger",
        waits_for_disk: bool = True,
    ) -> None:
        """Where it does not wait for the disk, a server that crashes may lose what it committed in its last second."""
        self._conninfo = conninfo
        self._options = f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
        if not waits_for_disk:
            self._options += " -c synchronous_commit=off"
        self._statements = statements
        self._application_name = application_name
        self._connection: psycopg.AsyncConnection | None = None
        self._reply: asyncio.Future[pq.abc.PGresult] | None = None
        self._result: pq.abc.PGresult | None = None
        self._lost = False
        self._watched: int | None = None
        """The socket's descriptor while the loop watches it: libpq forgets it the moment the connection breaks."""

    async def run(self, name: str, parameter: bytes) -> bytes:
        """Run a statement with one parameter in text form, commit, and return its one value, empty for none.

        Raises `StatementError` when the server refuses it, one of `CONNECTION_ERRORS` when there is no server; then it
        is unknown whether the statement was committed.
        """
        if self._lost:
            await self.close()
        if self._connection is None:
            await self._open()
        assert self._connection is not None
        pgconn = self._connection.pgconn
        try:
            pgconn.send_query_prepared(name.encode(), [parameter])
            result = await self._await_reply(pgconn, sent=f"{name}_sent_not_acknowledged")
        except (*CONNECTION_ERRORS, asyncio.CancelledError):
            await self.close()
            raise
        if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            if sqlstate.startswith(("08", "57P")):  # the server is going away: this connection is of no more use
                await self.close()
            raise StatementError(sqlstate, result.error_message.decode("utf-8", "replace"))
        return (result.get_value(0, 0) or b"") if result.ntuples else b""

    async def close(self) -> None:
        """Drop the connection; the next `run` opens another."""
        connection, self._connection = self._connection, None
        self._lost = False
        self._unwatch()
        if connection is not None:
            await connection.close()

    async def _open(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name=self._application_name,
            options=self._options,
        )
        self._connection = connection
        self._watched = connection.fileno()
        asyncio.get_running_loop().add_reader(self._watched, self._on_readable, connection.pgconn)
        for name, statement in self._statements.items():
            connection.pgconn.send_prepare(name.encode(), statement.encode())
            result = await self._await_reply(connection.pgconn)
            if result.status != pq.ExecStatus.COMMAND_OK:
                await self.close()
                raise psycopg.OperationalError(result.error_message.decode("utf-8", "replace"))

    async def _await_reply(self, pgconn: pq.abc.PGconn, *, sent: str = "") -> pq.abc.PGresult:
        loop = asyncio.get_running_loop()
        self._reply = loop.create_future()
        while pgconn.flush():  # noqa: ASYNC110 -- 1: the socket's buffer is full, which takes hundreds of rows
            await asyncio.sleep(0.001)
        fault_point(sent)
        timer = loop.call_later(REPLY_TIMEOUT_SECONDS, self._fail, TimeoutError("The database did not reply."))
        try:
            return await self._reply
        finally:
            timer.cancel()
            self._reply = None

    def _on_readable(self, pgconn: pq.abc.PGconn) -> None:
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    break
                self._result = result
            else:
                return
        except psycopg.OperationalError as error:
            self._unwatch()
            self._fail(error)
            return
        result, self._result = self._result, None
        if result is not None and self._reply is not None and not self._reply.done():
            self._reply.set_result(result)

    def _unwatch(self) -> None:
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None

    def _fail(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        self._lost = True
