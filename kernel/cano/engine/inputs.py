"""The inputs of a batch that a store keeps, and the batch that executes here: what kernel and keeper exchange."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from cano.model.workflow import Workflow


class Inputs(NamedTuple):
    """The inputs of a batch that a store keeps, and what is to be done with them.

    Attributes:
        flow: the workflow that is executed for each.
        read: returns a new iterator over them.
        total: their number, if it is known.
        limit: maximum number of runs at once.
        wait: the `WaitStrategy` that ends the batch.
        deliver, progress: called with each run's `BatchOutcome` before it is counted, and the status after it; or None.
    """

    flow: Workflow[Any]
    read: Callable[[], AsyncGenerator[Any, None]]
    total: int | None
    limit: int
    wait: Any
    deliver: Callable[[Any], Awaitable[None]] | None = None
    progress: Callable[[Any], None] | None = None


class Feed(Protocol):
    """A batch that executes here.

    Attributes:
        flow: its workflow, a run of which is the batch. Only a process that has the inputs can execute it.
        error: why it was interrupted, such as an error of the inputs or the store; otherwise None.
    """

    flow: Workflow[Any]
    error: BaseException | None
