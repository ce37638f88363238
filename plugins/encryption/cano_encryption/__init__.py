"""Encryption of the values in a store: `?codec=encrypt`, with keys from the environment."""

from cano_encryption.keys import KEYS_ENV, EncryptionKey, new_key, read_keys
from cano_encryption.layer import EncryptionLayer

__all__ = ["EncryptionKey", "EncryptionLayer", "KEYS_ENV", "new_key", "read_keys"]
