"""`sweep`: finds and removes the files that no store refers to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cano import ConfigurationError, Kernel, StoreBackend

from cano_offload.folder import Folder, StoredFile
from cano_offload.layer import OffloadLayer
from cano_offload.references import References, offload_layer

GRACE = 3600.0
"""Seconds for which an unreferenced file is kept, because a reference to it may be about to be committed."""

_Store = tuple[str, StoreBackend, References]


class Swept(NamedTuple):
    """The result of a sweep.

    Attributes:
        folder: the folder.
        referenced: number of files that the stores refer to.
        missing: the SHA-256 of referenced files that do not exist.
        unreferenced: unreferenced files that are old enough to be removed.
        recent: number of unreferenced files whose value was stored less than `GRACE` seconds ago.
        removed: the removed files.
    """

    folder: Folder
    referenced: int
    missing: list[str]
    unreferenced: list[StoredFile]
    recent: int
    removed: list[StoredFile]


async def sweep(kernel: Kernel, urls: Sequence[str], *, delete: bool = False, even_all: bool = False) -> Swept:
    """Find the files that no store refers to and, with `delete`, remove them.

    Args:
        kernel: provides the plugins and the clock; it need not be open.
        urls: every store that offloads to the folder.
        delete: whether to remove the files.
        even_all: whether to remove files even if one of the stores refers to no file at all.

    Raises:
        ConfigurationError: the stores offload to different folders or not at all, a store does not exist, or
            `even_all` is required. Nothing was removed.
        SerializationError: a run cannot be read. Nothing was removed.
    """
    before = kernel.clock.time() - GRACE  # from the start: reading the stores may take long
    stores, folder = await _stores(kernel, urls)
    referenced: set[str] = set()
    embedded: set[str] = set()
    without_references: list[str] = []
    for name, backend, references in stores:
        try:
            await backend.open()
            if not (found := await references.all()):
                without_references.append(name)
            referenced |= found
            embedded |= references.embedded
        finally:
            await backend.close()
    files = [*folder.files()]
    all_unreferenced = [file for file in files if file.digest not in referenced | embedded]
    unreferenced = [file for file in all_unreferenced if file.changed < before]
    if delete and unreferenced and without_references and not even_all:
        raise ConfigurationError(
            f"no run in {' and '.join(without_references)} refers to any of the {len(files)} files in {folder.path}, "
            "so the URL may be wrong; to remove the unreferenced files all the same, add --even-all"
        )
    removed = [file for file in unreferenced if delete and folder.remove(file, before)]
    missing = sorted(referenced - {file.digest for file in files if file.digest is not None})
    return Swept(folder, len(referenced), missing, unreferenced, len(all_unreferenced) - len(unreferenced), removed)


async def _stores(kernel: Kernel, urls: Sequence[str]) -> tuple[list[_Store], Folder]:
    """Return each store, unopened and with its name for messages, and their common folder.

    A store with a method `exists()` must exist, because its `open` would create an empty store.
    """
    stores: list[_Store] = []
    folders: list[Folder] = []
    for url in urls:
        name = Kernel(store=url, discover=False, namespace=kernel.namespace).store_name  # without its password
        backend, layers = kernel.store_at(url)
        encrypted = () if layers.bound is None else layers.bound.layers
        folders.append(offload_layer(name, [*layers, *encrypted]).folder)
        if folders[-1].path != folders[0].path:
            raise ConfigurationError(
                f"{stores[0][0]} and {name} offload to different folders; sweep one folder at a time"
            )
        assert backend is not None  # a store with layers always has a backend
        exists = getattr(backend, "exists", None)
        if exists is not None and not await exists():
            raise ConfigurationError(f"there is no such store: {name}; check the URL and the current directory")
        if any(isinstance(layer, OffloadLayer) for layer in encrypted):  # it keeps what is encrypted already
            inner: StoreBackend = getattr(backend, "inner", backend)
            stores.append((name, backend, References(inner, encrypted, encrypted=True)))
        else:
            stores.append((name, backend, References(backend, layers)))
    return stores, folders[0]
