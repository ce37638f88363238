"""Files that no store refers to any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cano import CodecLayer, ConfigurationError, Kernel, StoreBackend

from cano_offload.folder import Folder, Found
from cano_offload.references import References, offload_layer

GRACE = 3600.0
"""Seconds for which a file is kept in any case: what refers to it may be about to be committed."""

_Store = tuple[str, StoreBackend, Sequence[CodecLayer]]


class Swept(NamedTuple):
    """What a sweep has found.

    Attributes:
        folder: the folder.
        referenced: how many files the stores refer to.
        missing: the SHA-256 of those that are referred to, but are not there.
        unreferenced: the files that are old enough to go.
        young: how many are referred to by nobody, but were written or asked for less than `GRACE` seconds ago.
        removed: those of `unreferenced` that were removed.
    """

    folder: Folder
    referenced: int
    missing: list[str]
    unreferenced: list[Found]
    young: int
    removed: list[Found]


async def sweep(kernel: Kernel, urls: Sequence[str], *, delete: bool = False, even_all: bool = False) -> Swept:
    """Find the files that none of the stores refers to, and, with `delete`, remove them.

    Args:
        kernel: knows the plugins and the time; it need not be open.
        urls: every store that offloads to the folder.
        delete: whether to remove what is found.
        even_all: whether to do so where one of the stores refers to no file at all.

    Raises:
        ConfigurationError: the stores offload to different folders, or not at all; one of them is not there, as far
            as can be told; or `even_all` is missing. Nothing is removed.
        SerializationError: a run cannot be read: nothing is removed.
    """
    before = kernel.clock.time() - GRACE  # of now: looking may take longer than that
    stores, folder = await _stores(kernel, urls)
    referenced: set[str] = set()
    mentioned: set[str] = set()
    without: list[str] = []
    for name, backend, layers in stores:
        try:
            await backend.open()
            references = References(backend, layers)
            if not (found := await references.all()):
                without.append(name)
            referenced |= found
            mentioned |= references.mentioned
        finally:
            await backend.close()
    files = [*folder.files()]
    loose = [file for file in files if file.digest not in referenced | mentioned]
    unreferenced = [file for file in loose if file.changed < before]
    if delete and unreferenced and without and not even_all:
        raise ConfigurationError(
            f"no run in {' and '.join(without)} refers to any of the {len(files)} files in {folder.path}: is this the "
            "right store? --even-all removes what no other refers to all the same"
        )
    removed = [file for file in unreferenced if delete and folder.remove(file, before)]
    missing = sorted(referenced - {file.digest for file in files if file.digest is not None})
    return Swept(folder, len(referenced), missing, unreferenced, len(loose) - len(unreferenced), removed)


async def _stores(kernel: Kernel, urls: Sequence[str]) -> tuple[list[_Store], Folder]:
    """Every store with what messages call it, not yet opened, and their folder: all are looked at before any is used.

    One that tells by a method `exists()` that it is not there would be made by its `open`, and refer to nothing.
    """
    stores: list[_Store] = []
    folders: list[Folder] = []
    for url in urls:
        name = Kernel(store=url, discover=False).store_name  # without its password
        backend, layers = kernel.store_at(url)
        folders.append(offload_layer(name, layers).folder)
        if folders[-1].path != folders[0].path:
            raise ConfigurationError(f"{stores[0][0]} and {name} offload to different folders; sweep one at a time")
        assert backend is not None  # it has layers
        exists = getattr(backend, "exists", None)
        if exists is not None and not await exists():
            raise ConfigurationError(f"there is no such store: {name}. Is the URL right, and the current folder?")
        stores.append((name, backend, layers))
    return stores, folders[0]
