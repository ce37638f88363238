"""The entries of the writer's queue."""

from __future__ import annotations

import asyncio
from typing import Any

from cano_postgres.work import Work


class Job:
    """One call and its waiting caller.

    Attributes:
        work: the work to do.
        future: the caller waits for it.
        state: WAITING, TAKEN or DONE.
        flying: whether it was sent, and its answer has not come.
        withdrawn: whether its caller was cancelled.
        again: whether it was sent before, and its answer was lost.
        deadline: when to give up without a connection.
    """

    __slots__ = ("again", "deadline", "flying", "future", "state", "withdrawn", "work")

    WAITING, TAKEN, DONE = range(3)

    def __init__(self, work: Work, future: asyncio.Future[Any], deadline: float, *, again: bool) -> None:
        self.work = work
        self.future = future
        self.state = self.WAITING
        self.flying = self.withdrawn = False
        self.again = again
        self.deadline = deadline

    def land(self) -> None:
        """Note that no answer will come. If the caller was cancelled, the job is done and not sent again."""
        self.flying = False
        if self.withdrawn and self.state == self.TAKEN:
            self.succeed(None)

    def succeed(self, result: Any) -> None:
        """Return the result to the caller."""
        self.state = self.DONE
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Raise the error in the caller."""
        self.state = self.DONE
        if not self.future.done():
            self.future.set_exception(error)
