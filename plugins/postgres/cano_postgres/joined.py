"""The store in the transactions of users' own connections to its database.

A transaction of a user may be open for long, and must keep no other waiting: neither one that stores a run or a signal
under the same id, nor one that parks a run for that signal. So what it stores has a provisional run id, which no other
transaction knows, until it is committed: `settle`, a trigger that the server calls then, replaces the id. It takes the
locks that `cano_postgres.signals` describes, and lets `ready` find the run.
"""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import psycopg
from cano import AuditEntry, Capabilities, ConfigurationError, RunRecord, Signal, Signals, Transition
from psycopg import AsyncConnection, sql
from psycopg.pq import PipelineStatus, TransactionStatus

from cano_postgres import notices, reading, signals
from cano_postgres.audit import row_of
from cano_postgres.connection import Connection
from cano_postgres.failures import translated, unkept
from cano_postgres.lent import Lent
from cano_postgres.records import Create
from cano_postgres.settings import Settings
from cano_postgres.work import Statement, Work

PREFIX = "\x01joined "
"""The beginning of provisional run ids."""

_SERVER = """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted
            AND classid = %(high)s::bigint::oid AND objid = %(low)s::bigint::oid
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
        has_schema_privilege(to_regnamespace(quote_ident(%(schema)s)), 'USAGE')"""
_PATH = "SELECT current_setting('search_path')"
_BEGIN = sql.SQL("SAVEPOINT cano; SET LOCAL search_path TO {}, pg_temp")
_END = sql.SQL("SELECT set_config('search_path', {}, true); RELEASE SAVEPOINT cano")
_UNDO = sql.SQL("ROLLBACK TO SAVEPOINT cano; RELEASE SAVEPOINT cano")  # with the path that it had
_IDS = "SELECT provisional FROM joined WHERE run_id = %s AND is_signal = %s ORDER BY id"
_JOIN = """
    INSERT INTO joined (run_id, provisional, is_signal, most, audited, action, actor, at, detail)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_KNOWN = """
    SELECT EXISTS (
        SELECT FROM signals
        WHERE run_id = ANY(%s::text[]) AND own = %s AND addressee = %s AND sha256(signal_id) = sha256(%s))"""
_WAITING = """
    SELECT count(*) FROM (
        SELECT FROM signals WHERE run_id = ANY(%s::text[]) AND NOT consumed AND NOT own LIMIT %s
    ) AS waiting"""


class Joiner:
    """Joins the transactions of users. It remembers the connections that are to the store's database.

    Args:
        settings: the store's settings.
        capabilities: the store's promises.
        key: the writer's key, which it holds as an advisory lock of the database.
        attend: waits until the writer is connected.
    """

    def __init__(
        self, settings: Settings, capabilities: Capabilities, key: int, attend: Callable[[], Awaitable[None]]
    ) -> None:
        self.settings = settings
        self.capabilities = capabilities
        self.begin = _BEGIN.format(sql.Identifier(settings.schema))
        self._ours = {"high": (key >> 32) & 0xFFFFFFFF, "low": key & 0xFFFFFFFF, "schema": settings.schema}
        self._attend = attend
        self._turns: weakref.WeakKeyDictionary[Any, asyncio.Lock] = weakref.WeakKeyDictionary()
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    async def joined(self, connection: Any) -> Joined:
        """See `JoiningStore.joined`."""
        if not isinstance(connection, psycopg.Connection | AsyncConnection):
            kind = type(connection)
            self._refuse(f"it is of type {kind.__module__}.{kind.__qualname__}, not of psycopg")
        if connection.closed:
            self._refuse("it is closed")
        if connection.info.pipeline_status != PipelineStatus.OFF:
            self._refuse("it is in pipeline mode; call this before or after that")
        status = connection.info.transaction_status
        if status == TransactionStatus.INERROR:
            self._refuse("a statement of its transaction has failed; roll it back")
        if status == TransactionStatus.IDLE and connection.autocommit:
            self._refuse("no transaction is open, so that each statement would be committed by itself; begin one")
        if connection.info.encoding != "utf-8":
            self._refuse(f"its encoding is {connection.info.encoding}; connect with client_encoding=utf8")
        lent = Lent(connection)
        turn = self._turns.setdefault(connection, asyncio.Lock())
        async with turn:
            try:
                if connection not in self._known:
                    await self._check(lent)
                    self._known.add(connection)
                ((path,),) = await (await lent.execute(_PATH)).fetchall()
            except psycopg.Error as error:
                raise translated(error, self.settings.label, None) from error
        return Joined(self, lent, turn, _END.format(sql.Literal(path)))

    async def _check(self, lent: Lent) -> None:
        """Raise ConfigurationError unless the connection is to the server and the database of the writer's."""
        found, usable = await self._found(lent)
        if not found:
            await self._attend()
            found, usable = await self._found(lent)
        if not found:
            self._refuse("it is connected to another database or server")
        if not usable:
            self._refuse(f"its user cannot use the schema {self.settings.schema}; grant it what the store's user has")

    async def _found(self, lent: Lent) -> tuple[bool, bool]:
        """Return whether the connection is to the writer's database, and whether its user can use the schema."""
        ((found, usable),) = await (await lent.execute(_SERVER, self._ours)).fetchall()
        return found, bool(usable)

    def _refuse(self, problem: str) -> Any:
        where = f"a connection to the database {self.settings.label}"
        raise ConfigurationError(f"the store needs {where}, in a transaction, and cannot use this one: {problem}")


class Joined:
    """The store in the open transaction of a connection. See `JoinedStore` for the methods.

    Args:
        owner: the joiner of its store.
        lent: the connection.
        turn: held during a call. All calls on the connection share it, since each has a savepoint and a search path.
        end: the statement that ends a call.
    """

    def __init__(self, owner: Joiner, lent: Lent, turn: asyncio.Lock, end: sql.Composed) -> None:
        self.capabilities = owner.capabilities
        self._end = end
        self._owner = owner
        self._lent = lent
        self._connection = cast("Connection", lent)  # what the store's functions use of one
        self._turn = turn

    async def create(self, run: RunRecord, entry: AuditEntry | None = None) -> RunRecord:
        async with self._ours(run.run_id):
            if (there := await self._load(run.run_id)) is not None:
                return there
            provisional = _provisional()
            work = Create(run._replace(run_id=provisional), self._owner.settings.snapshot_every)
            await self._put(work, run.run_id, None, entry, is_signal=False)
            return run

    async def load(self, run_id: str) -> RunRecord | None:
        async with self._ours(run_id):
            return await self._load(run_id)

    async def _load(self, run_id: str) -> RunRecord | None:
        found = await reading.load(self._connection, await self._stored_id(run_id))
        return None if found is None else found._replace(run_id=run_id)

    async def _stored_id(self, run_id: str) -> str:
        """Return the id under which a run is stored: a provisional one if this transaction has made it."""
        ids = await self._ids(run_id, is_signal=False)
        return ids[0] if ids else run_id

    async def _ids(self, run_id: str, *, is_signal: bool) -> list[str]:
        return [id for (id,) in await (await self._lent.execute(_IDS, (run_id, is_signal))).fetchall()]

    async def history(self, run_id: str) -> Sequence[Transition]:
        return await self.history_page(run_id, None, None)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        async with self._ours(run_id):
            return await reading.history(self._connection, await self._stored_id(run_id), after, limit)

    async def put_signal(self, run_id: str, signal: Signal, entry: AuditEntry | None = None) -> None:
        await self._send(run_id, signal, None, entry)

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, entry: AuditEntry | None = None) -> bool:
        return await self._send(run_id, signal, most, entry)

    async def _send(self, run_id: str, signal: Signal, most: int | None, entry: AuditEntry | None) -> bool:
        async with self._ours(run_id):
            ids = [run_id, *await self._ids(run_id, is_signal=True)]
            if await self._asked(_KNOWN, (ids, *signals.key_of(signal.key))):
                return True
            if most is not None and await self._asked(_WAITING, (ids, most)) >= most:
                return False
            await self._put(signals.Put(_provisional(), signal), run_id, most, entry, is_signal=True)
            return True

    async def _asked(self, question: str, values: Sequence[Any]) -> Any:
        ((answer,),) = await (await self._lent.execute(question, values)).fetchall()
        return answer

    async def signals(self, run_id: str) -> Signals:
        async with self._ours(run_id):
            found = await signals.every(self._connection, run_id)
            waiting = list(found.waiting)
            for id in await self._ids(run_id, is_signal=True):
                waiting += (await signals.every(self._connection, id)).waiting
            return found._replace(waiting=waiting)

    async def _put(
        self, work: Work, run_id: str, most: int | None, entry: AuditEntry | None, *, is_signal: bool
    ) -> None:
        """Do a work whose run id is provisional, and notify all backends, this one included, after the commit."""
        audited = (None,) * 4 if entry is None else row_of(entry)[1:]
        row = run_id, work.run_id, is_signal, most, None if entry is None else entry.run_id, *audited
        statements: list[Statement] = [*work.statements(again=False), (_JOIN, row)]
        statements.append(notices.telling(self._owner.settings.schema, notices.sender(0), [run_id]))
        for text, values in statements:
            await self._lent.execute(text, values)

    @asynccontextmanager
    async def _ours(self, run_id: str) -> AsyncIterator[None]:
        """Let statements in this block find the store's tables, and no others meanwhile. Undo them if one fails."""
        async with self._turn:
            try:
                await self._lent.execute(self._owner.begin)
                yield
                await self._lent.execute(self._end)
            except BaseException as error:
                with suppress(psycopg.Error):  # the connection is lost, or the savepoint was not made
                    await self._lent.execute(_UNDO)
                if isinstance(error, UnicodeError):
                    raise unkept(error, run_id) from error
                if isinstance(error, psycopg.Error):
                    raise translated(error, self._owner.settings.label, run_id) from error
                raise


def _provisional() -> str:
    return f"{PREFIX}{uuid.uuid4().hex}"
