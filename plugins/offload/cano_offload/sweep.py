"""Files that no store refers to any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cano import ConfigurationError, Kernel

from cano_offload.folder import Folder, Found
from cano_offload.references import References, offload_layer

GRACE = 3600.0
"""Seconds for which a file is kept in any case: what refers to it may be about to be committed."""


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
        even_all: whether to do so where the stores refer to no file at all.

    Raises:
        ConfigurationError: the stores offload to different folders, or not at all; or `even_all` is missing.
        SerializationError: a run cannot be read: nothing is removed.
    """
    before = kernel.clock.time() - GRACE  # of now: looking may take longer than that
    folders: list[Folder] = []
    referenced: set[str] = set()
    mentioned: set[str] = set()
    names = [Kernel(store=url, discover=False).store_name for url in urls]  # nothing secret is in these
    for name, url in zip(names, urls, strict=True):
        backend, layers = kernel.store_at(url)
        folders.append(offload_layer(name, layers).folder)
        if folders[-1].path != folders[0].path:
            raise ConfigurationError(f"{names[0]} and {name} offload to different folders; sweep one at a time")
        assert backend is not None  # it has layers
        try:
            await backend.open()
            references = References(backend, layers)
            referenced |= await references.all()
            mentioned |= references.mentioned
        finally:
            await backend.close()
    files = [*folders[0].files()]
    loose = [file for file in files if file.digest not in referenced | mentioned]
    unreferenced = [file for file in loose if file.changed < before]
    if delete and unreferenced and not referenced and not even_all:
        raise ConfigurationError(
            f"no run refers to any of the {len(files)} files in {folders[0].path}: is this the right store? "
            "--even-all removes them all the same"
        )
    removed = [file for file in unreferenced if delete and folders[0].remove(file, before)]
    missing = sorted(referenced - {file.digest for file in files if file.digest is not None})
    return Swept(folders[0], len(referenced), missing, unreferenced, len(loose) - len(unreferenced), removed)
