"""Parents and children in the store: which runs may be parked for a child, and how they learn of its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from cano import Run, SerializationError, Signal, StoreBackend, SubWorkflow, Workflow, state_name
from cano.engine.ports import BoundWorkflow, child_signal

from cano_durability.keys import BATCH

if TYPE_CHECKING:
    from cano_durability.transacting.step_transaction import StepTransaction


def only_waits(plan: BoundWorkflow, state: str) -> SubWorkflow[object] | None:
    """Return the task of a state, if it does nothing but execute a child; otherwise None."""
    bound = plan.by_name.get(state)
    return None if bound is None else _only_waits(bound.task)


def _only_waits(task: object) -> SubWorkflow[object] | None:
    # a subclass may do more in its `run`, which a woken parent would repeat
    return task if isinstance(task, SubWorkflow) and type(task).run is SubWorkflow.run else None


def may_be_awaited(run: Run) -> bool:
    """Return whether the parent of a run may be parked while that is: unless a branch or other code awaits it."""
    if run.parent_id is None:
        return False
    parent = run.parent or run.kernel.active.get(run.parent_id)
    return parent is None or only_waits(parent.plan, state_name(parent.step.state)) is not None


def children_of(plan: BoundWorkflow) -> Iterator[str]:
    """Yield the names of the workflows of children that runs of `plan` may be parked for, and of their children."""
    flows: list[Workflow[object]] = [plan.flow]
    seen = set(flows)
    while flows:
        for registration in flows.pop().tasks.values():
            if (task := _only_waits(registration.task)) is not None and task.flow not in seen:
                seen.add(task.flow)
                flows.append(task.flow)
                yield task.flow.name


async def announce_end(backend: StoreBackend | StepTransaction, parent: str, child: str, token: int) -> None:
    """Send the signal that wakes the parent of a child. Called before a holder with this token commits the child's end.

    A parent that is woken too early waits for the holder, or parks again once that has lost its lease. The next holder
    has another token, so it sends another signal.
    """
    with suppress(SerializationError):
        record = await backend.load(parent)
        if record is None or record.status.finished or BATCH in record.own:  # a batch is never parked
            return
    name = child_signal(child)
    await backend.put_signal(parent, Signal(f"{name} {token}", name, own=True))
