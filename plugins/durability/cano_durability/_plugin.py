"""The plugin: it keeps the runs of every kernel that has a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cano import hookimpl

if TYPE_CHECKING:
    from cano.engine.ports import Host, RunKeeper

CANO_API_VERSION = 2


@hookimpl
def cano_keep_runs(kernel: Host) -> RunKeeper | None:
    """Keep runs in the kernel's store."""
    from cano_durability.keeper import Keeper  # late: a kernel without a store need not pay for it

    return Keeper(kernel)
