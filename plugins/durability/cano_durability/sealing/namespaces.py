"""Namespaces of an encrypted store: the whole store remembers that its parts are encrypted."""

from __future__ import annotations

from contextlib import suppress

from cano import ConfigurationError, Kernel, RunFilter, StoreBackend, StoreError

from cano_durability.keys import MARK
from cano_durability.sealing.marks import mark_place, marked
from cano_durability.sealing.plain import PlainLayer
from cano_durability.sealing.store import SealedStore


async def check_namespace(kernel: Kernel, part: StoreBackend) -> None:
    """Mark the whole store if `part`, a namespace of it, is new and encrypted; check its mark if `part` is empty.

    Nothing is done for a store that is given as an object, which its owner opens and closes, nor if the whole store
    cannot be opened: a tenant may have no rights there. A whole store that has runs is not marked.

    Raises:
        ConfigurationError: the whole store is encrypted, and nothing says that this new part must not be.
    """
    layers = getattr(kernel.codec, "layers", ())
    if isinstance(part, SealedStore):
        if not part.is_new:
            return
    elif any(isinstance(layer, PlainLayer) for layer in layers) or await _is_used(part):
        return
    if (whole := kernel.whole_store()) is None or not whole.capabilities.durable:
        return
    if not isinstance(part, SealedStore) and (exists := getattr(whole, "exists", None)) and not await exists():
        return
    with suppress(StoreError):
        await whole.open()
        try:
            mark = await whole.load(MARK)
            if not isinstance(part, SealedStore):
                if mark is not None and mark.workflow == MARK:
                    raise ConfigurationError(
                        f"the store {kernel.store_name} is new, and the store that it is a part of is encrypted; add "
                        f"codec={mark.fingerprint} as its other namespaces do, or codec=plain for plain text"
                    )
            elif mark is None and not await _is_used(whole):
                await marked(whole, part.layer, part.names, mark_place(""))
        finally:
            await whole.close()


async def _is_used(store: StoreBackend) -> bool:
    """Return whether a store has a run, or a signal for one."""
    return bool(await store.runs(RunFilter(limit=1)) or await store.missing_recipients())
