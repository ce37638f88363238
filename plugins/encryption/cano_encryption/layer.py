"""`EncryptionLayer`: encrypts values with AES-256-GCM.

The format of an encrypted value:

    C1 45 02   mark and version; no value of cano-msgspec begins with C1
    n, id      the length of the key's id (1 byte), and the id
    salt       16 bytes; HKDF-SHA256 derives this value's key from the salt, the secret and the version
    seq        8 bytes: the transition that wrote the value; all bits are set if it is unknown
    nonce      12 random bytes
    ciphertext, followed by a 16-byte tag that authenticates it, everything before it, and the value's place: the
               lengths (8 bytes each) and UTF-8 of store, run and key, and of the namespace if there is one

Version 1 has neither place nor seq. Earlier versions wrote it; `wrap`, which knows no place, still does. Since its keys
differ, a value of version 2 cannot be turned into one of version 1.

Random nonces are safe for 2^32 values under one key, which a busy store soon exceeds. So a layer draws a new salt, and
with it a new key, when it is made and after every 2^30 values. A forked process shares the salt and draws its own
nonces.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cano import ConfigurationError, LayerContext, SerializationError

from cano_encryption.keys import ID, KEYS_ENV, EncryptionKey, check_distinct

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MARK = b"\xc1E"
UNBOUND, BOUND = b"\x01", b"\x02"
INFO = {UNBOUND: b"cano-encryption 1", BOUND: b"cano-encryption 2"}
PREFIX = len(MARK + BOUND) + 1
SALT, SEQ, NONCE, TAG = 16, 8, 12, 16
UNKNOWN = 2 ** (8 * SEQ) - 1
VALUES_PER_SALT = 2**30


class _Parts(NamedTuple):
    """The parts of an encrypted value. `header` is everything before the nonce; `seq` is None in version 1."""

    version: bytes
    id: str
    header: bytes
    salt: bytes
    seq: int | None
    nonce: bytes
    ciphertext: bytes


class EncryptionLayer:
    """A layer that encrypts values with its first key and decrypts values of all its keys.

    Safe to share between threads.

    Args:
        keys: one key or more.
        migrating: whether to read unencrypted values as they are, instead of refusing them.
        errors: whether the errors of runs are encrypted, too. It becomes the attribute `seals_errors`.

    Raises:
        ConfigurationError: there is no key, or two have the same id or secret.
    """

    def __init__(self, keys: Sequence[EncryptionKey], *, migrating: bool = False, errors: bool = False) -> None:
        if not keys:
            raise ConfigurationError("encryption needs a key")
        check_distinct(keys)
        self.migrating = migrating
        self.seals_errors = errors
        self._secrets = {key.id: key.secret for key in keys}
        self._id = keys[0].id
        self._own = bytes([len(self._id)]) + self._id.encode()
        self._cipher: Callable[[bytes, str, bytes], AESGCM] = functools.lru_cache(1024)(self._derive_cipher)
        self._renew_salt()

    def __repr__(self) -> str:
        return f"<EncryptionLayer, keys {', '.join(self._secrets)}>"

    def _renew_salt(self) -> None:
        salt = os.urandom(SALT)
        self._current, self._remaining = salt, VALUES_PER_SALT

    def _derive_cipher(self, version: bytes, id: str, salt: bytes) -> AESGCM:
        # imported on first use, because loading cryptography takes 0.1 s
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return AESGCM(HKDF(SHA256(), 32, salt, INFO[version]).derive(self._secrets[id]))

    # with a context

    def wrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """Return `data` encrypted with the first key, bound to its place.

        Raises:
            SerializationError: `data` has 2^31 bytes or more.
        """
        seq = (UNKNOWN if context.seq is None else context.seq).to_bytes(SEQ)
        return self._encrypted(BOUND, data, seq, _place(context))

    def unwrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """Return the data that `wrap_in` encrypted for the same place.

        Raises:
            SerializationError: it was encrypted for another place, its key is missing, or it is corrupt.
        """
        if not data.startswith(MARK + BOUND):
            if context.bound and (data.startswith(MARK + UNBOUND) or self.migrating):
                raise SerializationError(
                    "it is not bound to its place, so a program with write access may have moved it here; if an "
                    "earlier version wrote it, restore the store's own record 'cano.store' from a backup"
                )
            return self.unwrap(data)
        parts = _parse(data)
        if context.bound is False:
            raise SerializationError("it is bound to a place, but its run has no seal; restore the run from a backup")
        if context.seq is not None and parts.seq not in (context.seq, UNKNOWN):
            raise SerializationError(
                f"transition {parts.seq} wrote it, not {context.seq}, so it was moved here; restore the run from a "
                "backup"
            )
        return self._decrypted(parts, _place(context))

    def is_current(self, data: bytes) -> bool:
        """Return whether `data` is bound to a place, and encrypted with the first key."""
        return data.startswith(MARK + BOUND + self._own)

    # without one

    def wrap(self, data: bytes) -> bytes:
        """Return `data` encrypted with the first key, bound to no place.

        Raises:
            SerializationError: `data` has 2^31 bytes or more.
        """
        return self._encrypted(UNBOUND, data)

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
        if parts.version != UNBOUND:
            raise SerializationError("it is bound to its place in a store; read it through the store")
        return self._decrypted(parts)

    # both

    def _encrypted(self, version: bytes, data: bytes, seq: bytes = b"", place: bytes = b"") -> bytes:
        if len(data) >= 2**31:
            raise SerializationError(f"it has {len(data)} bytes, but at most {2**31 - 1} can be encrypted; split it")
        self._remaining -= 1  # threads may lose a few counts, which 2^30 values against a limit of 2^32 allow
        if self._remaining < 0:
            self._renew_salt()
        salt = self._current
        nonce = os.urandom(NONCE)
        header = MARK + version + self._own + salt + seq
        return header + nonce + self._cipher(version, self._id, salt).encrypt(nonce, data, header + place)

    def _decrypted(self, parts: _Parts, place: bytes = b"") -> bytes:
        if parts.id not in self._secrets:
            raise SerializationError(
                f"it is encrypted with the key {parts.id!r}, but {KEYS_ENV} contains only "
                f"{', '.join(self._secrets)}; append the missing key"
            )
        from cryptography.exceptions import InvalidTag

        try:
            cipher = self._cipher(parts.version, parts.id, parts.salt)
            return cipher.decrypt(parts.nonce, parts.ciphertext, parts.header + place)
        except InvalidTag:
            moved = "it was moved here from another place, or " if place else ""
            raise SerializationError(
                f"{moved}its encrypted bytes are corrupt, or {KEYS_ENV} contains another key with the id {parts.id!r}; "
                "check the key, or restore the value from a backup"
            ) from None


def _place(context: LayerContext) -> bytes:
    """Return the place as bytes that no other place has; without a namespace, as earlier versions did."""
    texts = *context[:3], *filter(None, [context.namespace])
    encoded = [text.encode(errors="surrogatepass") for text in texts]
    return b"".join(len(each).to_bytes(8) + each for each in encoded)


def _parse(data: bytes) -> _Parts:
    version = data[len(MARK) : PREFIX - 1]
    if len(data) < PREFIX or version not in INFO:
        raise SerializationError(
            "its encrypted bytes are corrupt, or a later version wrote them; upgrade cano-encryption"
        )
    end = PREFIX + data[PREFIX - 1]
    id = data[PREFIX:end].decode("ascii", "replace")
    salt_end = end + SALT
    header_end = salt_end + (SEQ if version == BOUND else 0)
    nonce_end = header_end + NONCE
    if len(data) < nonce_end + TAG or not ID.fullmatch(id):
        raise SerializationError("its encrypted bytes are corrupt; restore the value from a backup")
    seq = int.from_bytes(data[salt_end:header_end]) if version == BOUND else None
    return _Parts(version, id, data[:header_end], data[end:salt_end], seq, data[header_end:nonce_end], data[nonce_end:])
