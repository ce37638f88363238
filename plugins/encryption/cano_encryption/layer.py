"""`EncryptionLayer`: encrypts values with AES-256-GCM.

The format of an encrypted value:

    C1 45 01   mark and version; no value of cano-msgspec begins with C1
    n, id      the length of the key's id (1 byte), and the id
    salt       16 bytes; HKDF-SHA256 derives this value's key from the salt and the secret
    nonce      12 random bytes
    ciphertext, followed by a 16-byte tag that authenticates it and everything before it

Random nonces are safe for 2^32 values under one key, which a busy store soon exceeds. So a layer draws a new salt, and
with it a new key, when it is made and after every 2^30 values. A forked process shares the salt and draws its own
nonces.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cano import ConfigurationError, SerializationError

from cano_encryption.keys import ID, KEYS_ENV, EncryptionKey, check_distinct

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MARK = b"\xc1E"
VERSION = b"\x01"
PREFIX = len(MARK + VERSION) + 1
SALT, NONCE, TAG = 16, 12, 16
VALUES_PER_SALT = 2**30
INFO = b"cano-encryption 1"


class _Parts(NamedTuple):
    """The parts of an encrypted value. `header` is everything before the nonce."""

    id: str
    header: bytes
    salt: bytes
    nonce: bytes
    ciphertext: bytes


class EncryptionLayer:
    """A layer that encrypts values with its first key and decrypts values of all its keys.

    Safe to share between threads.

    Args:
        keys: one key or more.
        migrating: whether to read unencrypted values as they are, instead of refusing them.

    Raises:
        ConfigurationError: there is no key, or two have the same id or secret.
    """

    def __init__(self, keys: Sequence[EncryptionKey], *, migrating: bool = False) -> None:
        if not keys:
            raise ConfigurationError("encryption needs a key")
        check_distinct(keys)
        self.migrating = migrating
        self._secrets = {key.id: key.secret for key in keys}
        self._id = keys[0].id
        self._header = MARK + VERSION + bytes([len(self._id)]) + self._id.encode()
        self._cipher: Callable[[str, bytes], AESGCM] = functools.lru_cache(1024)(self._derive_cipher)
        self._renew_salt()

    def __repr__(self) -> str:
        return f"<EncryptionLayer, keys {', '.join(self._secrets)}>"

    def _renew_salt(self) -> None:
        salt = os.urandom(SALT)
        self._current, self._remaining = (salt, self._cipher(self._id, salt)), VALUES_PER_SALT

    def _derive_cipher(self, id: str, salt: bytes) -> AESGCM:
        # imported on first use, because loading cryptography takes 0.1 s
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return AESGCM(HKDF(SHA256(), 32, salt, INFO).derive(self._secrets[id]))

    def wrap(self, data: bytes) -> bytes:
        """Return `data` encrypted with the first key.

        Raises:
            SerializationError: `data` has 2^31 bytes or more.
        """
        if len(data) >= 2**31:
            raise SerializationError(f"it has {len(data)} bytes, but at most {2**31 - 1} can be encrypted; split it")
        self._remaining -= 1  # threads may lose a few counts, which 2^30 values against a limit of 2^32 allow
        if self._remaining < 0:
            self._renew_salt()
        salt, cipher = self._current
        nonce = os.urandom(NONCE)
        header = self._header + salt
        return header + nonce + cipher.encrypt(nonce, data, header)

    def unwrap(self, data: bytes) -> bytes:
        """Return the data that `wrap` encrypted.

        Raises:
            SerializationError: `data` is not encrypted, its key is missing, or it is corrupt.
        """
        if not data.startswith(MARK):
            if self.migrating:
                return data
            raise SerializationError(
                "it is not encrypted, so anyone with write access may have forged it; to read values from before the "
                "store was encrypted, use codec=encrypt:migrating"
            )
        parts = _parse(data)
        if parts.id not in self._secrets:
            raise SerializationError(
                f"it is encrypted with the key {parts.id!r}, but {KEYS_ENV} contains only "
                f"{', '.join(self._secrets)}; append the missing key"
            )
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher(parts.id, parts.salt).decrypt(parts.nonce, parts.ciphertext, parts.header)
        except InvalidTag:
            raise SerializationError(
                f"its encrypted bytes are corrupt, or {KEYS_ENV} contains another key with the id {parts.id!r}; "
                "check the key, or restore the value from a backup"
            ) from None


def _parse(data: bytes) -> _Parts:
    if len(data) < PREFIX or not data.startswith(MARK + VERSION):
        raise SerializationError(
            "its encrypted bytes are corrupt, or a later version wrote them; upgrade cano-encryption"
        )
    end = PREFIX + data[PREFIX - 1]
    id = data[PREFIX:end].decode("ascii", "replace")
    if len(data) < end + SALT + NONCE + TAG or not ID.fullmatch(id):
        raise SerializationError("its encrypted bytes are corrupt; restore the value from a backup")
    salt_end, nonce_end = end + SALT, end + SALT + NONCE
    return _Parts(id, data[:salt_end], data[end:salt_end], data[salt_end:nonce_end], data[nonce_end:])
