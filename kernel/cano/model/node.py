"""`Node`: a task in three phases, which are attempted one by one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, TypeVar

from cano.model.task import StateT_co, Task

PrepT = TypeVar("PrepT")
ExecT = TypeVar("ExecT")


class Node(Task[StateT_co], Generic[StateT_co, PrepT, ExecT]):
    """A task in three phases: `prep` reads the store, `exec` works without it, `post` writes to it.

    In a workflow, each phase is retried by itself; a phase that has succeeded is not executed again in the same step.
    All phases count against one maximum of attempts.
    """

    @abstractmethod
    async def prep(self, store: Any) -> PrepT:
        """Read from the store, and return the argument of `exec`."""

    @abstractmethod
    async def exec(self, prepared: PrepT) -> ExecT:
        """Do the work, and return the result. It does not get the store, so an executor may execute it elsewhere."""

    @abstractmethod
    async def post(self, store: Any, prepared: PrepT, result: ExecT) -> StateT_co:
        """Write the result to the store, and return the next state."""

    async def exec_fallback(self, prepared: PrepT, error: Exception) -> ExecT:
        """Return a result to use in place of that of `exec`. Called once, after the last failed attempt of `exec`.

        By default it raises `error`, which fails the step.
        """
        raise error

    async def run(self, store: Any) -> StateT_co:
        """Execute all three phases once, without retries. For calls outside a workflow."""
        prepared = await self.prep(store)
        try:
            result = await self.exec(prepared)
        except Exception as error:  # noqa: BLE001  # the fallback decides, and re-raises by default
            result = await self.exec_fallback(prepared, error)
        return await self.post(store, prepared, result)
