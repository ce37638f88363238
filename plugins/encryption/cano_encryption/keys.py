"""Keys, as the environment holds them. No message shows a key, nor any text that might be one in the wrong place."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cano import ConfigurationError

VARIABLE = "CANO_ENCRYPTION_KEYS"
KEY_BYTES = 32
ID = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
MAKE_ONE = "python -m cano_encryption prints a new key"


@dataclass(frozen=True, slots=True)
class Key:
    """A key.

    Attributes:
        id: stands beside every value that it encrypts: 1 to 32 letters, digits, or any of `_.-`.
        secret: 32 bytes.

    Raises:
        ConfigurationError: it is not like that.
    """

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not ID.fullmatch(self.id):
            raise ConfigurationError("a key's id must be 1 to 32 letters, digits, or any of _.-")
        if not isinstance(self.secret, bytes) or len(self.secret) != KEY_BYTES:
            raise ConfigurationError(f"a key must be {KEY_BYTES} bytes; {MAKE_ONE}")


def new_key(id: str | None = None) -> str:
    """A new key, as `read_keys` takes it.

    Args:
        id: its id; by default a random one.

    Raises:
        ConfigurationError: the id is wrong.
    """
    key = Key(os.urandom(4).hex() if id is None else id, os.urandom(KEY_BYTES))
    return f"{key.id}:{base64.b64encode(key.secret).decode()}"


def read_keys(text: str) -> list[Key]:
    """The keys in `id:base64,id:base64`, in either alphabet of base64; whitespace around each is ignored.

    Raises:
        ConfigurationError: there is none, or one is wrong, or two are the same. They are named by their place.
    """
    if not text.strip():
        raise ConfigurationError(f"{VARIABLE} holds no key; {MAKE_ONE}")
    keys = [_key(number, item.strip()) for number, item in enumerate(text.split(","), 1)]
    check_distinct(keys)
    return keys


def check_distinct(keys: Sequence[Key]) -> None:
    """Raise ConfigurationError where two keys have the same id, or are the same."""
    for what, values in (("id", [key.id for key in keys]), ("secret", [key.secret for key in keys])):
        for number, value in enumerate(values, 1):
            if (first := values.index(value) + 1) != number:  # type: ignore[arg-type]  # of the list's own type
                raise ConfigurationError(f"encryption keys number {first} and {number} have the same {what}")


def _key(number: int, item: str) -> Key:
    where = f"{VARIABLE}, key number {number}"
    id, colon, encoded = item.partition(":")
    if not colon:
        raise ConfigurationError(f"{where}: there is no colon; write id:base64")
    if not ID.fullmatch(id):
        raise ConfigurationError(f"{where}: what is before the colon must be 1 to 32 letters, digits, or any of _.-")
    text = encoded.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"{where}: what follows the colon is not base64; {MAKE_ONE}") from None
    if len(secret) != KEY_BYTES:
        raise ConfigurationError(f"{where}: it has {len(secret)} bytes, not {KEY_BYTES}; {MAKE_ONE}")
    return Key(id, secret)
