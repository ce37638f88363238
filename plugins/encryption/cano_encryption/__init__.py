"""Encryption of what stores keep: `?codec=encrypt`, with keys from the environment."""

from cano_encryption.keys import VARIABLE, Key, new_key, read_keys
from cano_encryption.layer import EncryptionLayer

__all__ = ["EncryptionLayer", "Key", "VARIABLE", "new_key", "read_keys"]
