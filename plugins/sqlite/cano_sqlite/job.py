"""Jobs: what a worker is given to do, and what came of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any


class Job:
    """Something to do, and what came of it.

    Attributes:
        run_id: the run concerned, for error messages.
        size: about how many bytes it writes.
        plain: whether it is a mere step of a run that goes on, as most are.
        loop, future: who waits for it; the worker sets them.
        taken: whether it is too late to take it back.
        unwanted: whether they were cancelled after that.
        done: whether they have been told, or need not be.
        result, error: what came of it.
    """

    run_id: str | None = None
    size = 0
    plain = False
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    taken = False
    unwanted = False
    done = False
    result: Any = None
    error: Exception | None = None

    def do(self, connection: sqlite3.Connection) -> Any:
        """Do it: its result."""
        raise NotImplementedError


class Call(Job):
    """A function of the connection."""

    def __init__(self, work: Callable[[sqlite3.Connection], Any], run_id: str | None = None, size: int = 0) -> None:
        self._work = work
        self.run_id = run_id
        self.size = size

    def do(self, connection: sqlite3.Connection) -> Any:
        """Call it."""
        return self._work(connection)
