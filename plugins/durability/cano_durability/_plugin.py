"""The plugin `durability`, which keeps the runs of every kernel that has a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cano import hookimpl

if TYPE_CHECKING:
    from cano import CodecLayer, ContextLayer, Kernel, StoreBackend
    from cano.engine.ports import BoundWorkflow, Host, RunKeeper

CANO_API_VERSION = 2


@hookimpl
def cano_keep_runs(kernel: Host) -> RunKeeper | None:
    """Return a keeper of runs in the kernel's store, or None without a store."""
    if kernel.backend is None:
        return None
    from cano_durability.keeper import Keeper  # late: a kernel without a store does not need it

    return Keeper(kernel)


@hookimpl
def cano_watch_lateness(plan: BoundWorkflow, kernel: Host) -> Any:
    """Return the observer of a workflow's runs that finds the late ones."""
    from cano_durability.lateness.observing import LatenessObserver

    return LatenessObserver(kernel)


@hookimpl
def cano_seal_store(store: StoreBackend, layer: ContextLayer, names: Sequence[str]) -> StoreBackend:
    """Return a store that encrypts values for their place and verifies runs."""
    from cano_durability.sealing.store import sealed

    return sealed(store, layer, names)


@hookimpl
def cano_codec_layer(spec: str) -> CodecLayer | None:
    """Return the layer for `plain`, which says that a store is not encrypted on purpose."""
    if spec != "plain":
        return None
    from cano_durability.sealing.plain import PlainLayer

    return PlainLayer()


@hookimpl
async def cano_kernel_started(kernel: Kernel) -> None:
    """Refuse a store that is encrypted if its URL does not say so: what the kernel writes could be read by anyone."""
    backend = kernel.backend
    if backend is None or not backend.capabilities.durable:
        return
    if not hasattr(backend, "is_sealed"):
        from cano_durability.sealing.marks import check_unmarked

        await check_unmarked(backend, kernel.store_name)
    if kernel.namespace is not None:
        from cano_durability.sealing.namespaces import check_namespace

        await check_namespace(kernel, backend)
