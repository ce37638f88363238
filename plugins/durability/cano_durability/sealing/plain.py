"""The layer `codec=plain`, which says that a store is not encrypted on purpose."""

from __future__ import annotations


class PlainLayer:
    """A layer that leaves all bytes as they are. A new namespace of an encrypted store needs it to stay plain text."""

    def wrap(self, data: bytes) -> bytes:
        """Return `data`."""
        return data

    def unwrap(self, data: bytes) -> bytes:
        """Return `data`."""
        return data
