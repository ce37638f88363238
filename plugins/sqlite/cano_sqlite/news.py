"""Notifications: a thread looks for changes by other connections, while the kernel wants to know them.

SQLite tells no process of the commits of another one. But `PRAGMA data_version` changes with each commit of another
connection. So the thread asks for it every `PAUSE` seconds if the `-wal` was written, and looks further only if it has
changed: journal entries show the runs that ended or were parked or created, signals those that got one, and the table
`news` those that were released or deleted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from time import time_ns
from typing import Any, NamedTuple

from cano import RunStatus

from cano_sqlite.connection import connect_for_reading, roll_back
from cano_sqlite.settings import Settings
from cano_sqlite.snapshot import fetch

PAUSE, QUIET_PAUSE = 0.03, 0.045
"""Seconds between two looks, and while nothing is written: each wakes a thread, which costs more than the look."""

SETTLED = 100_000_000
"""Nanoseconds after which another write changes the file's time, which has the resolution of the system's ticks."""

LONG_PAUSE = 1.0
"""Seconds until the next look after an error."""

MOST = 1000
"""The most runs of one look that are named one by one, and the most rows of `news`."""

NEWEST = """
    SELECT (SELECT max(id) FROM journal), (SELECT max(id) FROM signals), (SELECT max(id) FROM news),
        (SELECT max(id) FROM chunks)"""
ENDED = """
    SELECT runs.run_id, journal.seq, journal.status FROM journal CROSS JOIN runs ON runs.id = journal.run
    WHERE journal.id > ? AND (journal.status <> 'running' OR (journal.prev = 0 AND runs.holder IS NULL))"""
SIGNALLED = "SELECT run_id FROM signals WHERE id > ?"
STREAMED = "SELECT DISTINCT runs.run_id FROM chunks CROSS JOIN runs ON runs.id = chunks.run WHERE chunks.id > ?"
NOTED = "SELECT run_id FROM news WHERE id > ?"
MOST_ENTRIES = 100_000
"""The most journal entries that one look reads."""

_NOTE = "INSERT INTO news (run_id) VALUES (?)"
_FORGET = "DELETE FROM news WHERE id = last_insert_rowid() - ?"
_log = logging.getLogger("cano.sqlite")


def note(connection: sqlite3.Connection, run_id: str | None) -> None:
    """Note that a run was released or deleted; None stands for any run."""
    connection.execute(_NOTE, (run_id,))
    connection.execute(_FORGET, (MOST,))  # ids are not used again, since the newest stays


class Newest(NamedTuple):
    """The newest ids: of journal entries, signals, rows of `news` and chunks of streams."""

    entry: int
    signal: int
    note: int
    chunk: int


def newest(connection: sqlite3.Connection) -> Newest:
    """Return the newest ids."""
    ((*ids,),) = connection.execute(NEWEST).fetchall()
    return Newest(*(id or 0 for id in ids))


class _Known:
    """The knowledge of the last look.

    Attributes:
        seen: what was newest.
        own: what this store itself has committed since then: run, seq and status of each end, wait and creation. Others
            may change these runs before the next look, so the run alone does not tell.
        streams: whether the chunks of streams matter, too.
    """

    def __init__(self, seen: Newest) -> None:
        self.seen = seen
        self.own: set[tuple[Any, ...]] = set()
        self.streams = False


class News:
    """Looks for changes from `watch` to `close`, in a thread that runs while the kernel attends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tell: Callable[[str | None], None] | None = None
        self._tell_streamed: Callable[[str | None], None] | None = None
        self._thread: _Thread | None = None
        self._last: _Thread | None = None
        self._known: _Known | None = None

    def begin(self, seen: Newest) -> None:
        """Tell what comes after this, as soon as there is a watcher."""
        self._known = _Known(seen)

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` from now on."""
        self._tell = tell
        self.attend(True)

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` with the runs to whose streams others add, from now on."""
        self._tell_streamed = tell
        if self._known is not None:
            self._known.streams = True
        if self._thread is None:
            self.attend(True)

    def attend(self, wanted: bool) -> None:
        """Begin or stop to look, and notify in the running event loop."""
        if not wanted:
            self.stop()
            return
        loop = asyncio.get_running_loop()
        if self._thread is not None and self._thread.loop is not loop:
            self.stop()
        if (self._tell or self._tell_streamed) and self._thread is None and self._known is not None:
            self._thread = _Thread(self._settings, self._known, loop, self._say)

    @contextmanager
    def change(self, run_id: str, seq: int, status: RunStatus) -> Iterator[None]:
        """In this block, the store itself ends, parks or creates a run, which `watch` need not tell."""
        own = set[tuple[Any, ...]]() if self._thread is None or self._known is None else self._known.own
        own.add(made := (run_id, seq, status.value))
        try:
            yield
        except BaseException:
            own.discard(made)
            raise

    def stop(self) -> None:
        """Let the thread end."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop.release()
            self._last = thread

    async def close(self) -> None:
        """Tell no more, and wait until the thread has disconnected."""
        self._tell = self._tell_streamed = None
        self.stop()
        if self._last is not None and self._last.process == os.getpid():
            await asyncio.wrap_future(self._last.ended)

    def _say(self, run_ids: set[str | None], streamed: set[str | None]) -> None:
        for changed, is_stream in ((run_ids, False), (streamed | (run_ids & {None}), True)):
            for run_id in changed:
                if (tell := self._tell_streamed if is_stream else self._tell) is not None:
                    try:
                        tell(run_id)
                    except Exception:  # noqa: BLE001  # it is logged, and notifications continue
                        _log.exception("the change callback of the store %s raised", self._settings.path)


class _Thread:
    """The thread. It ends by itself if its event loop is closed, or the store was garbage collected without `close`.

    Attributes:
        loop: the event loop that is notified.
        process: the process that has it; a fork has no thread.
        stop: held until the thread is to end.
        ended: done when it has disconnected.
    """

    def __init__(
        self,
        settings: Settings,
        known: _Known,
        loop: asyncio.AbstractEventLoop,
        say: Callable[[set[str | None], set[str | None]], None],
    ) -> None:
        self._settings = settings
        self._known = known
        self.loop = loop
        self._say = weakref.WeakMethod(say)  # the watcher refers to the store
        self.process = os.getpid()
        self.stop = threading.Lock()
        self.stop.acquire()
        self.ended: Future[None] = Future()
        self.ended.set_running_or_notify_cancel()
        threading.Thread(target=self._live, name="cano-sqlite news", daemon=True).start()

    def _live(self) -> None:
        connection: sqlite3.Connection | None = None
        version, pause, quiet, log = None, PAUSE, None, f"{self._settings.path}-wal"
        try:
            while not self.stop.acquire(timeout=pause) and not self.loop.is_closed() and self._say() is not None:
                try:
                    if connection is None:
                        connection = connect_for_reading(self._settings)
                    before, written = time_ns() - SETTLED, _written(log)
                    if quiet is not None and written == quiet:
                        pause = QUIET_PAUSE
                        continue
                    ((now,),) = connection.execute("PRAGMA data_version").fetchall()
                    if now != version:
                        self._report(*_look(connection, self._known))
                        version = now  # if it has changed since, the next look finds it
                    quiet = written if written is not None and written[0] < before else None
                    pause = PAUSE
                except Exception as error:  # noqa: BLE001  # kernels poll meanwhile, and this tries again
                    _log.info("no notifications from %s: %s; retrying", self._settings.path, error)
                    pause, quiet = LONG_PAUSE, None
        finally:
            if connection is not None:
                connection.close()
            self.ended.set_result(None)

    def _report(self, changed: set[str | None], streamed: set[str | None]) -> None:
        if (changed or streamed) and (say := self._say()) is not None:
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(say, changed, streamed)


def _written(log: str) -> tuple[int, int] | None:
    """Return when the log was last written, in nanoseconds, and its size; None if that cannot be known."""
    if os.name != "posix":  # Windows may show the time late
        return None
    try:
        found = os.stat(log)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def _look(connection: sqlite3.Connection, known: _Known) -> tuple[set[str | None], set[str | None]]:
    """Return the runs that have changed since the last look, and those with more in their streams; None is any run."""
    connection.execute("BEGIN")
    try:
        now, seen = newest(connection), known.seen
        found: list[tuple[Any, ...]] = []
        streamed: list[tuple[Any, ...]] = []
        if known.streams and now.chunk > seen.chunk:
            streamed = fetch(connection, STREAMED, (seen.chunk,))
        if now.note - seen.note > MOST or now.entry - seen.entry > MOST_ENTRIES:
            found.append((None,))
            known.own.clear()
        else:
            for question, id in zip((ENDED, SIGNALLED, NOTED), seen[:3], strict=True):
                found += fetch(connection, question, (id,))
    finally:
        roll_back(connection)
    known.seen = now
    own = known.own.intersection(found)
    known.own -= own
    changed, more = _runs_in(row for row in found if row not in own), _runs_in(streamed)
    return changed, more


def _runs_in(rows: Iterable[tuple[Any, ...]]) -> set[str | None]:
    changed = {row[0] if isinstance(row[0], str) else None for row in rows}
    return changed if len(changed) <= MOST else {None}
