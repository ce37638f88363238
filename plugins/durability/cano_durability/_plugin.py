"""The plugin `durability`, which keeps the runs of every kernel that has a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cano import hookimpl

if TYPE_CHECKING:
    from cano.engine.ports import Host, RunKeeper

CANO_API_VERSION = 2


@hookimpl
def cano_keep_runs(kernel: Host) -> RunKeeper | None:
    """Return a keeper of runs in the kernel's store, or None without a store."""
    if kernel.backend is None:
        return None
    from cano_durability.keeper import Keeper  # late: a kernel without a store does not need it

    return Keeper(kernel)
