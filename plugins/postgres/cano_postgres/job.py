"""What the writer's queue consists of."""

from __future__ import annotations

import asyncio
from typing import Any

from cano_postgres.work import Work


class Job:
    """One call, and who waits for it.

    Attributes:
        work: what is to be done.
        future: done when it is.
        state: how far it is.
        flying: whether it is on its way to the server.
        withdrawn: whether its caller was cancelled.
        again: whether it was sent before, and its answer was lost.
        deadline: when to give up if there is no connection.
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
        """It is no longer on its way; where its caller was cancelled, it does not set out again."""
        self.flying = False
        if self.withdrawn and self.state == self.TAKEN:
            self.succeed(None)

    def succeed(self, result: Any) -> None:
        """Hand over what came of it."""
        self.state = self.DONE
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Tell why nothing came of it."""
        self.state = self.DONE
        if not self.future.done():
            self.future.set_exception(error)
