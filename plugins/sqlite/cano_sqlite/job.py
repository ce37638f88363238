"""Jobs for a worker thread, with their results."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any


class Job:
    """A job and its result.

    Attributes:
        run_id: the run, for error messages.
        size: approximate number of bytes that the job writes.
        plain: whether it is a plain step, as most are: the run continues, without wait, signal or release.
        urgent: whether it is done before all others that wait.
        loop, future: of the waiting caller; the worker sets them.
        taken: whether the thread has taken it, so that it cannot be withdrawn.
        unwanted: whether the caller was cancelled after that.
        done: whether the caller has its result, or no longer waits.
        result, error: the outcome.
    """

    run_id: str | None = None
    size = 0
    plain = False
    urgent = False
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    taken = False
    unwanted = False
    done = False
    result: Any = None
    error: Exception | None = None

    def do(self, connection: sqlite3.Connection) -> Any:
        """Do the job in the thread, and return its result."""
        raise NotImplementedError


class Call(Job):
    """A job that calls a function with the connection."""

    def __init__(
        self,
        work: Callable[[sqlite3.Connection], Any],
        run_id: str | None = None,
        size: int = 0,
        *,
        urgent: bool = False,
    ) -> None:
        self._work = work
        self.run_id = run_id
        self.size = size
        self.urgent = urgent

    def do(self, connection: sqlite3.Connection) -> Any:
        """Call the function."""
        return self._work(connection)
