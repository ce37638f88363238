"""Digests of a batch's inputs, by which another process recognises them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashlib import blake2b

BLOCK = 500
"""Inputs that share a digest."""
SIZE = 8
"""Bytes of a digest."""


class Digests:
    """The digests of the inputs read so far. Those that an earlier process has read are compared with its digests.

    Args:
        known: the digests that were stored.
        high: the number of inputs that they are of.

    Attributes:
        count: the number of inputs read here.
        block: those read here that share the last digest, while they are compared.
    """

    def __init__(self, known: bytes, high: int) -> None:
        self.count = 0
        self.block: list[Any] = []
        self._known = known
        self._high = high
        self._blocks = bytearray()
        self._hash = _new()

    def add(self, item: Any, digest: bytes) -> bool:
        """Add the next input and its digest. Return whether the inputs in `block` may differ from earlier ones."""
        if self.count % BLOCK == 0:
            self.block.clear()
        if self.count < self._high:
            self.block.append(item)
        self._hash.update(digest)
        self.count += 1
        begun = self.count % BLOCK
        mine = self._hash.digest() if begun == 0 or self.count == self._high else b""
        if begun == 0:
            self._blocks += mine
            self._hash = _new()
        if self.count > self._high or not mine:
            return False
        block = (self.count - 1) // BLOCK
        return mine != self._known[block * SIZE : (block + 1) * SIZE]

    def packed(self) -> bytes:
        """Return the digests to store: those that are known, until as many inputs have been read here."""
        if self.count < self._high:
            return self._known
        return bytes(self._blocks) + (self._hash.digest() if self.count % BLOCK else b"")


def _new() -> blake2b:
    from hashlib import blake2b  # late: importing it takes 1 ms

    return blake2b(digest_size=SIZE)
