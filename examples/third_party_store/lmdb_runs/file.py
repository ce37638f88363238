"""An LMDB file that several stores, threads and processes share, and a thread that works on it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import lmdb
from cano import StoreUnavailableError

from lmdb_runs.group import Group

if TYPE_CHECKING:
    Transaction = lmdb.Transaction[bytes]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="LmdbFile")
FIRST_SIZE = 16 * 2**20


class LmdbFile:
    """What opens, closes, and works in transactions: in the order in which it is asked for, off the event loop."""

    _group: Group

    def __init__(self, path: str) -> None:
        self._path = path
        self._shared: Shared | None = None

    async def open(self) -> None:
        """Open the file, making it where it is missing, in a folder that must be there."""
        try:
            self._shared = enter(self._path)  # this maps the file, and reads next to nothing
        except lmdb.Error as error:
            raise self._unavailable(error) from error
        self._group = Group(self._shared.transaction)

    async def close(self) -> None:
        """Finish what was asked for, then close the file."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await asyncio.shield(asyncio.to_thread(self._leave, shared))

    async def do(self, work: Callable[[Transaction], T], writes: bool) -> T:
        """What `work` returns, done in a transaction; what it wrote is on disk then. Raises StoreUnavailableError."""
        try:
            return await self._group.do(work, writes)
        except lmdb.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: lmdb.Error) -> StoreUnavailableError:
        return StoreUnavailableError(f"the store {self._path} cannot be used: {error}")

    def _leave(self, shared: Shared) -> None:
        self._group.end()
        leave(shared)


def reads(work: Callable[Concatenate[S, Transaction, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """An async method of a method that takes a transaction in which it may read."""
    return _method(work, writes=False)


def writes(work: Callable[Concatenate[S, Transaction, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """An async method of a method that takes a transaction in which it may write."""
    return _method(work, writes=True)


def _method(
    work: Callable[Concatenate[S, Transaction, P], T], writes: bool
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.do(lambda txn: work(self, txn, *args, **kwargs), writes)

    method.__doc__ = work.__doc__
    return method


class Shared:
    """An open LMDB file. All stores of one process that use a file share one: LMDB allows no second."""

    def __init__(self, path: str) -> None:
        self.users = 0
        self.env = lmdb.open(path, subdir=False, map_size=FIRST_SIZE)
        self.env.reader_check()  # processes that were killed while they read would keep old pages for ever
        self._lock = threading.Lock()

    def transaction(self, work: Callable[[Transaction], T], write: bool) -> T:
        """Do `work`, again from the start where the file has to grow first."""
        with self._lock:  # a file may grow only while this process has no transaction
            while True:
                try:
                    with self.env.begin(write=write) as txn:
                        return work(txn)
                except lmdb.MapFullError:
                    self.env.set_mapsize(2 * self.env.info()["map_size"])
                except lmdb.MapResizedError:  # another process has let it grow
                    self.env.set_mapsize(0)


_open: dict[tuple[int, str], Shared] = {}  # by process, for a forked child must not use its parent's
_guard = threading.Lock()


def enter(path: str) -> Shared:
    """The file at `path`, for one more user. Raises lmdb.Error."""
    key = os.getpid(), os.path.realpath(path)
    with _guard:
        shared = _open.get(key) or _open.setdefault(key, Shared(key[1]))
        shared.users += 1
        return shared


def leave(shared: Shared) -> None:
    """One user less; the last one closes the file."""
    with _guard:
        shared.users -= 1
        if not shared.users:
            shared.env.close()
            for key in [key for key, open in _open.items() if open is shared]:
                del _open[key]
