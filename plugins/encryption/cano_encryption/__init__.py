"""Encryption of the values in a store: `?codec=encrypt`, with keys from the environment."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["EncryptionKey", "EncryptionLayer", "KEYS_ENV", "new_key", "read_keys"]

if typing.TYPE_CHECKING:
    from cano_encryption.keys import KEYS_ENV, EncryptionKey, new_key, read_keys
    from cano_encryption.layer import EncryptionLayer
else:
    __getattr__, __dir__ = _lazy_names(
        __name__, {"keys": "KEYS_ENV EncryptionKey new_key read_keys", "layer": "EncryptionLayer"}
    )
