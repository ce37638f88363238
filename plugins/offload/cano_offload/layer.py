"""`LimitLayer` and `OffloadLayer`: what becomes of values that are too large for the store.

A value that was offloaded is a reference in the store: the mark C1 46, the SHA-256 of its bytes in hexadecimal, a
colon, and how many they are. No value of cano-msgspec begins with C1: what begins otherwise was not offloaded.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cano import SerializationError

from cano_offload.folder import Folder
from cano_offload.sizes import shown

MARK = b"\xc1F"
_REFERENCE = re.compile(rb"\xc1F([0-9a-f]{64}):([0-9]{1,15})")


class Reference(NamedTuple):
    """Where an offloaded value is."""

    digest: str
    size: int


class LimitLayer:
    """Refuses values over a limit.

    Args:
        limit: how many bytes a value may have, as it comes from the layers before this one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __repr__(self) -> str:
        return f"<LimitLayer, {shown(self.limit)}>"

    def wrap(self, data: bytes) -> bytes:
        """`data`, if it is not over the limit.

        Raises:
            SerializationError: it is.
        """
        if len(data) > self.limit:
            raise SerializationError(f"it takes {len(data)} bytes, and the store's limit is {shown(self.limit)}")
        return data

    def unwrap(self, data: bytes) -> bytes:
        """`data`: what was stored before there was a limit can be read."""
        return data


class OffloadLayer:
    """Keeps values over a limit in files, and a reference to each in the store.

    A file is on disk, whole, when `wrap` returns: before anything is committed that refers to it. That blocks the event
    loop for as long as the disk takes. Safe to share between threads and processes.

    Args:
        limit: how many bytes a value may have to stay in the store.
        folder: where the files are.
    """

    def __init__(self, limit: int, folder: Folder) -> None:
        self.limit = limit
        self.folder = folder

    def __repr__(self) -> str:
        return f"<OffloadLayer, over {shown(self.limit)} to {str(self.folder.path)!r}>"

    def wrap(self, data: bytes) -> bytes:
        """`data`, or a reference to the file that keeps it.

        Raises:
            StoreUnavailableError: the file cannot be written.
        """
        # what looks like a reference could not be told from one if it stayed
        if len(data) <= self.limit and not data.startswith(MARK):
            return data
        return MARK + f"{self.folder.keep(data)}:{len(data)}".encode()

    def unwrap(self, data: bytes) -> bytes:
        """What `wrap` was given.

        Raises:
            SerializationError: its file is missing, or is not what it was; or the reference is damaged.
            StoreUnavailableError: the file cannot be read now.
        """
        reference = reference_in(data)
        return data if reference is None else self.folder.read(*reference)


def reference_in(data: bytes) -> Reference | None:
    """The reference that the store keeps in place of a value, or None where it keeps the value.

    Raises:
        SerializationError: it is a damaged one. Nothing else than the name of a file of ours gets through here.
    """
    if not data.startswith(MARK):
        return None
    found = _REFERENCE.fullmatch(data)
    if found is None:
        raise SerializationError("the reference to its file is damaged")
    return Reference(found[1].decode(), int(found[2]))


def references_inside(data: bytes) -> set[str]:
    """The SHA-256 of whatever looks like a reference anywhere in `data`."""
    return {found[1].decode() for found in _REFERENCE.finditer(data)}
