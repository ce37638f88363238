"""Keys from the environment. No error message shows a key or any text that may be one."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cano import ConfigurationError

KEYS_ENV = "CANO_ENCRYPTION_KEYS"
KEY_BYTES = 32
ID = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
NEW_KEY_HINT = "python -m cano_encryption prints a new key"


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """An AES-256 key with an id.

    Attributes:
        id: 1 to 32 letters, digits, or any of `_.-`. It is stored, unencrypted, with every value.
        secret: 32 bytes.

    Raises:
        ConfigurationError: the id or the secret is malformed.
    """

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not ID.fullmatch(self.id):
            raise ConfigurationError("a key's id must be 1 to 32 letters, digits, or any of _.-")
        if not isinstance(self.secret, bytes) or len(self.secret) != KEY_BYTES:
            raise ConfigurationError(f"a key must be {KEY_BYTES} bytes; {NEW_KEY_HINT}")
        if len({*self.secret}) == 1:  # zeros, say: a placeholder, or a variable that was never filled
            raise ConfigurationError(f"the key {self.id!r} is one byte repeated, which is not secret; {NEW_KEY_HINT}")


def new_key(id: str | None = None) -> str:
    """Return a new random key as text for `read_keys`.

    Args:
        id: the key's id, by default a random one.

    Raises:
        ConfigurationError: the id is malformed.
    """
    key = EncryptionKey(os.urandom(4).hex() if id is None else id, os.urandom(KEY_BYTES))
    return f"{key.id}:{base64.b64encode(key.secret).decode()}"


def read_keys(text: str) -> list[EncryptionKey]:
    """Parse keys such as `id:base64,id:base64`. Whitespace around each is ignored.

    Both base64 alphabets are accepted, with or without padding.

    Raises:
        ConfigurationError: there is no key, one is malformed, or two have the same id or secret. The message gives
            the key's position.
    """
    if not text.strip():
        raise ConfigurationError(f"{KEYS_ENV} holds no key; {NEW_KEY_HINT}")
    keys = [_parse_key(number, item.strip()) for number, item in enumerate(text.split(","), 1)]
    check_distinct(keys)
    return keys


def check_distinct(keys: Sequence[EncryptionKey]) -> None:
    """Raise ConfigurationError if two keys have the same id or the same secret."""
    for what, values in (("id", [key.id for key in keys]), ("secret", [key.secret for key in keys])):
        for number, value in enumerate(values, 1):
            if (first := values.index(value) + 1) != number:  # type: ignore[arg-type]  # of the list's own type
                raise ConfigurationError(f"encryption keys number {first} and {number} have the same {what}")


def _parse_key(number: int, item: str) -> EncryptionKey:
    where = f"{KEYS_ENV}, key number {number}"
    id, colon, encoded = item.partition(":")
    if not colon:
        raise ConfigurationError(f"{where}: there is no colon; write id:base64")
    if not ID.fullmatch(id):
        raise ConfigurationError(f"{where}: the id before the colon must be 1 to 32 letters, digits, or any of _.-")
    text = encoded.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"{where}: the text after the colon is not base64; {NEW_KEY_HINT}") from None
    if len(secret) != KEY_BYTES:
        raise ConfigurationError(f"{where}: the key has {len(secret)} bytes, not {KEY_BYTES}; {NEW_KEY_HINT}")
    return EncryptionKey(id, secret)
