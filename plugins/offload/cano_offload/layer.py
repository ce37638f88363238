"""`LimitLayer` refuses values that are too large for a store; `OffloadLayer` keeps them in files.

The store keeps a reference to an offloaded value: the mark C1 46, the hexadecimal SHA-256 of its bytes, a colon, and
their number. No value of cano-msgspec begins with C1, so bytes that begin otherwise were not offloaded.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cano import SerializationError
from cano.options import place_name

from cano_offload.folder import Folder
from cano_offload.sizes import format_size

MARK = b"\xc1F"
_REFERENCE = re.compile(rb"\xc1F([0-9a-f]{64}):([0-9]{1,15})")


class Reference(NamedTuple):
    """A reference to an offloaded value: the SHA-256 of its bytes, and their number."""

    digest: str
    size: int


class LimitLayer:
    """A layer that refuses values over a limit.

    Args:
        limit: the largest number of bytes of a value, measured after the layers to the left of this one.
    """

    hides = False  # see `cano.CodecLayer`

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __repr__(self) -> str:
        return f"<LimitLayer, {format_size(self.limit)}>"

    def wrap(self, data: bytes) -> bytes:
        """Return `data` unchanged.

        Raises:
            SerializationError: `data` is over the limit.
        """
        if len(data) > self.limit:
            raise SerializationError(
                f"its {len(data)} bytes exceed the store's limit of {format_size(self.limit)}; "
                "store less, or raise the limit in the store's URL"
            )
        return data

    def unwrap(self, data: bytes) -> bytes:
        """Return `data` unchanged, so that values from before the limit can be read."""
        return data


class OffloadLayer:
    """A layer that keeps values over a limit in files, and a reference to each in the store.

    When `wrap` returns, the file is completely on disk, so it exists before any commit refers to it. The event loop
    waits for the disk. Safe to share between threads and processes.

    Args:
        limit: the largest number of bytes of a value that stays in the store.
        folder: the folder of the files.
    """

    keeps_outside = True  # see `cano.CodecLayer`
    hides = False

    def __init__(self, limit: int, folder: Folder) -> None:
        self.limit = limit
        self.folder = folder

    def __repr__(self) -> str:
        return f"<OffloadLayer, over {format_size(self.limit)} to {str(self.folder.path)!r}>"

    def scoped(self, namespace: str) -> OffloadLayer:
        """Return a layer that keeps the files of a namespace in a folder of their own, such as `blobs@acme`."""
        path = self.folder.path
        folder = Folder(path.with_name(f"{path.name}@{place_name(namespace)}"), file_mode=self.folder.file_mode)
        return OffloadLayer(self.limit, folder)

    def wrap(self, data: bytes) -> bytes:
        """Return `data`, or a reference to a file with it.

        Raises:
            StoreUnavailableError: the file cannot be written.
        """
        # data that begins with the mark is offloaded too: in the store it would be mistaken for a reference
        if len(data) <= self.limit and not data.startswith(MARK):
            return data
        return MARK + f"{self.folder.keep(data)}:{len(data)}".encode()

    def unwrap(self, data: bytes) -> bytes:
        """Return the data that `wrap` was given.

        Raises:
            SerializationError: the file is missing or changed, or the reference is corrupt.
            StoreUnavailableError: the file cannot be read now.
        """
        reference = reference_in(data)
        return data if reference is None else self.folder.read(*reference)


def reference_in(data: bytes) -> Reference | None:
    """Parse the reference in stored bytes. Return None if they are a value.

    The returned SHA-256 is always well-formed, so the reference cannot lead outside the folder.

    Raises:
        SerializationError: the reference is corrupt.
    """
    if not data.startswith(MARK):
        return None
    found = _REFERENCE.fullmatch(data)
    if found is None:
        raise SerializationError("the reference to its file is corrupt; restore the value from a backup")
    return Reference(found[1].decode(), int(found[2]))


def embedded_references(data: bytes) -> set[str]:
    """Return the SHA-256 of everything in `data` that has the form of a reference."""
    return {found[1].decode() for found in _REFERENCE.finditer(data)}
