"""An LMDB file that several stores, threads and processes share, and the thread that works on it."""

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
    """Opens, closes and works in transactions, off the event loop and in the order of the calls."""

    _group: Group

    def __init__(self, path: str) -> None:
        self._path = path
        self._shared: Shared | None = None

    async def open(self) -> None:
        """Open the file. Create it if it is missing, but not its folder."""
        try:
            self._shared = enter(self._path)  # this maps the file, and reads almost nothing
        except lmdb.Error as error:
            raise self._unavailable(error) from error
        self._group = Group(self._shared.transaction)

    async def close(self) -> None:
        """Finish the calls under way, and close the file."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await asyncio.shield(asyncio.to_thread(self._leave, shared))

    async def do(self, work: Callable[[Transaction], T], writes: bool) -> T:
        """Do `work` in a transaction, and return its result. Then its writes are on disk."""
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
    """Make an async method from one that takes a transaction for reading."""
    return _method(work, writes=False)


def writes(work: Callable[Concatenate[S, Transaction, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make an async method from one that takes a transaction for writing."""
    return _method(work, writes=True)


def _method(
    work: Callable[Concatenate[S, Transaction, P], T], writes: bool
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.do(lambda txn: work(self, txn, *args, **kwargs), writes)

    method.__doc__ = work.__doc__
    return method


class Shared:
    """An open LMDB file. All stores of a process on one file share it, since LMDB allows no second environment."""

    def __init__(self, path: str) -> None:
        self.users = 0
        self.env = lmdb.open(path, subdir=False, map_size=FIRST_SIZE, mode=0o600)  # readable by its owner only
        self.env.reader_check()  # otherwise processes that were killed while they read would keep old pages for ever
        self._lock = threading.Lock()

    def transaction(self, work: Callable[[Transaction], T], write: bool) -> T:
        """Do `work`. If the file must grow first, start again."""
        with self._lock:  # the file can grow only if this process has no transaction
            while True:
                try:
                    with self.env.begin(write=write) as txn:
                        return work(txn)
                except lmdb.MapFullError:
                    self.env.set_mapsize(2 * self.env.info()["map_size"])
                except lmdb.MapResizedError:  # another process has made it grow
                    self.env.set_mapsize(0)


_open: dict[tuple[int, str], Shared] = {}  # by process id, since a forked child must not use its parent's environment
_guard = threading.Lock()


def enter(path: str) -> Shared:
    """Return the file at `path` for one more user. Raise lmdb.Error if it cannot be opened."""
    key = os.getpid(), os.path.realpath(path)
    with _guard:
        shared = _open.get(key) or _open.setdefault(key, Shared(key[1]))
        shared.users += 1
        return shared


def leave(shared: Shared) -> None:
    """Remove one user. The last one closes the file."""
    with _guard:
        shared.users -= 1
        if not shared.users:
            shared.env.close()
            for key in [key for key, open in _open.items() if open is shared]:
                del _open[key]
