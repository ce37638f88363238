"""An LMDB file that several stores, threads and processes share, and a thread that works on it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import lmdb
from cano import StoreUnavailableError

if TYPE_CHECKING:
    Transaction = lmdb.Transaction[bytes]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="LmdbFile")
FIRST_SIZE = 16 * 2**20


class LmdbFile:
    """What opens, closes, and works in transactions.

    One thread does one call after the other. So a call that was cancelled is either dropped, or done before the next
    one begins, and closing comes after all that was asked for before.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._shared: Shared | None = None
        self._closed = False

    async def open(self) -> None:
        """Open the file, making it where it is missing, in a folder that must be there."""
        if self._thread is None and not self._closed:
            self._thread = ThreadPoolExecutor(1, "lmdb-runs")
        await self.in_thread(self._enter)

    async def close(self) -> None:
        """Finish what was asked for, then close the file."""
        self._closed = True
        if self._thread is not None:
            left = asyncio.get_running_loop().run_in_executor(self._thread, self._leave)
            self._thread.shutdown(wait=False)
            self._thread = None
            await asyncio.shield(left)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What `work` returns. Raises StoreUnavailableError."""
        if self._thread is None:
            raise StoreUnavailableError(f"the store {self._path} {'was closed' if self._closed else 'is not open'}")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except lmdb.Error as error:
            raise StoreUnavailableError(f"the store {self._path} cannot be used: {error}") from error

    def transaction(self, work: Callable[[Transaction], T], write: bool) -> T:
        """What `work` returns, done in one transaction; what it wrote is on disk then."""
        if self._shared is None:
            raise StoreUnavailableError(f"the store {self._path} is not open")
        return self._shared.transaction(work, write)

    def _enter(self) -> None:
        if self._shared is None:
            self._shared = enter(self._path)

    def _leave(self) -> None:
        if self._shared is not None:
            leave(self._shared)
            self._shared = None


def reads(work: Callable[Concatenate[S, Transaction, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """An async method of a method that takes a transaction in which it may read."""
    return _method(work, write=False)


def writes(work: Callable[Concatenate[S, Transaction, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """An async method of a method that takes a transaction in which it may write."""
    return _method(work, write=True)


def _method(
    work: Callable[Concatenate[S, Transaction, P], T], write: bool
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.in_thread(lambda: self.transaction(lambda txn: work(self, txn, *args, **kwargs), write))

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
