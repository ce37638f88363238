"""`EncryptionLayer`: values are AES-256-GCM in the store.

An encrypted value is

    C1 45 01   mark and version; no value of cano-msgspec begins with C1
    n, id      the length of the key's id, and the id
    salt       16 bytes, from which and the key HKDF-SHA256 makes the key that this value is encrypted with
    nonce      12 random bytes
    the ciphertext, and 16 bytes that authenticate it and all of the above

A layer draws a new salt when it is made, and after 2^30 values: random nonces are good for 2^32 values under one key,
which a busy store has soon. A forked process shares the salt, and draws nonces of its own.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cano import ConfigurationError, SerializationError

from cano_encryption.keys import ID, VARIABLE, Key, check_distinct

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MARK = b"\xc1E"
VERSION = b"\x01"
HEAD = len(MARK + VERSION) + 1
SALT, NONCE, TAG = 16, 12, 16
PER_SALT = 2**30
INFO = b"cano-encryption 1"


class _Parts(NamedTuple):
    """An encrypted value, taken apart."""

    id: str
    head: bytes
    salt: bytes
    nonce: bytes
    ciphertext: bytes


class EncryptionLayer:
    """Encrypts values with the first of its keys, and reads what any of them has encrypted.

    Safe to share between threads.

    Args:
        keys: at least one.
        migrating: whether values that are not encrypted are read as they are, rather than refused.

    Raises:
        ConfigurationError: there is no key, or two are the same.
    """

    def __init__(self, keys: Sequence[Key], *, migrating: bool = False) -> None:
        if not keys:
            raise ConfigurationError("encryption needs a key")
        check_distinct(keys)
        self.migrating = migrating
        self._secrets = {key.id: key.secret for key in keys}
        self._id = keys[0].id
        self._head = MARK + VERSION + bytes([len(self._id)]) + self._id.encode()
        self._cipher: Callable[[str, bytes], AESGCM] = functools.lru_cache(1024)(self._derived)
        self._renew_salt()

    def __repr__(self) -> str:
        return f"<EncryptionLayer, keys {', '.join(self._secrets)}>"

    def _renew_salt(self) -> None:
        salt = os.urandom(SALT)
        self._writing, self._left = (salt, self._cipher(self._id, salt)), PER_SALT

    def _derived(self, id: str, salt: bytes) -> AESGCM:
        # imported here, so that a program that only loads its plugins does not load cryptography: 0.1 s
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return AESGCM(HKDF(SHA256(), 32, salt, INFO).derive(self._secrets[id]))

    def wrap(self, data: bytes) -> bytes:
        """`data`, encrypted with the first key.

        Raises:
            SerializationError: it has 2^31 bytes or more.
        """
        if len(data) >= 2**31:
            raise SerializationError(f"it takes {len(data)} bytes, which are too many to be encrypted at once")
        self._left -= 1  # threads may miss a count or two: the limit is far from where it would matter
        if self._left < 0:
            self._renew_salt()
        salt, cipher = self._writing
        nonce = os.urandom(NONCE)
        head = self._head + salt
        return head + nonce + cipher.encrypt(nonce, data, head)

    def unwrap(self, data: bytes) -> bytes:
        """What `wrap` was given.

        Raises:
            SerializationError: it is not encrypted, or with another key, or damaged.
        """
        if not data.startswith(MARK):
            if self.migrating:
                return data
            raise SerializationError(
                "it is not encrypted, and might have been put there by anybody; codec=encrypt:migrating reads it, for "
                "as long as a store has values from before it was encrypted"
            )
        parts = _parts(data)
        if parts.id not in self._secrets:
            raise SerializationError(
                f"it is encrypted with the key {parts.id!r}, which is not among those in {VARIABLE} "
                f"({', '.join(self._secrets)}); put it back at their end"
            )
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher(parts.id, parts.salt).decrypt(parts.nonce, parts.ciphertext, parts.head)
        except InvalidTag:
            raise SerializationError(
                f"its encrypted bytes are damaged, or the key {parts.id!r} in {VARIABLE} is not the one that they were "
                "encrypted with, but another of the same id"
            ) from None


def _parts(data: bytes) -> _Parts:
    if len(data) < HEAD or not data.startswith(MARK + VERSION):
        raise SerializationError("its encrypted bytes are damaged, or of a later version of cano-encryption")
    end = HEAD + data[HEAD - 1]
    id = data[HEAD:end].decode("ascii", "replace")
    if len(data) < end + SALT + NONCE + TAG or not ID.fullmatch(id):
        raise SerializationError("its encrypted bytes are damaged")
    salted, nonced = end + SALT, end + SALT + NONCE
    return _Parts(id, data[:salted], data[end:salted], data[salted:nonced], data[nonced:])
