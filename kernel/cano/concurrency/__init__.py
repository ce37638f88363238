"""Splits, batches and sub-workflows: a built-in plugin, attached by `cano_bind_state`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cano.hookspecs import hookimpl
from cano.model.split import SplitTask

if TYPE_CHECKING:
    from cano.engine.ports import BoundState, Host, Work


@hookimpl
def cano_bind_state(state: BoundState, kernel: Host) -> Work | None:
    """Execute the states that were registered with `register_split`."""
    if not isinstance(state.task, SplitTask):
        return None
    from cano.concurrency.branches import Split  # late: it imports asyncio

    return Split(state, state.task, kernel)
