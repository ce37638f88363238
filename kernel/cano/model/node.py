"""A Node: a task in three phases, each attempted on its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, TypeVar

from cano.model.task import StateT_co, Task

PrepT = TypeVar("PrepT")
ExecT = TypeVar("ExecT")


class Node(Task[StateT_co], Generic[StateT_co, PrepT, ExecT]):
    """A task in three phases: `prep` reads the store, `exec` works without it, `post` writes to it.

    In a workflow each phase is attempted under the retry strategy, out of one budget of attempts for the
    whole node; a phase that has succeeded is not run again within the step.
    """

    @abstractmethod
    async def prep(self, store: Any) -> PrepT:
        """Load and check what `exec` needs."""

    @abstractmethod
    async def exec(self, prepared: PrepT) -> ExecT:
        """Do the work. It never sees the store, so an executor may carry it out elsewhere."""

    @abstractmethod
    async def post(self, store: Any, prepared: PrepT, result: ExecT) -> StateT_co:
        """Keep the result and return the next state."""

    async def exec_fallback(self, prepared: PrepT, error: Exception) -> ExecT:
        """A result to go on with instead, called once after the last failed attempt of `exec`.

        By default it raises `error`, which fails the step.
        """
        raise error

    async def run(self, store: Any) -> StateT_co:
        """All three phases, once and without retries, as for a call outside a workflow."""
        prepared = await self.prep(store)
        try:
            result = await self.exec(prepared)
        except Exception as error:  # noqa: BLE001  # the fallback decides, and re-raises by default
            result = await self.exec_fallback(prepared, error)
        return await self.post(store, prepared, result)
