"""What the kernel finds through the entry point."""

from __future__ import annotations

import os

from cano import ConfigurationError, hookimpl

from cano_encryption.keys import VARIABLE, read_keys
from cano_encryption.layer import EncryptionLayer

CANO_API_VERSION = 2


@hookimpl
def cano_codec_layer(spec: str) -> EncryptionLayer | None:
    """The layer that `encrypt`, or `encrypt:migrating`, stands for, with the keys that the environment holds."""
    name, colon, argument = spec.partition(":")
    if name != "encrypt":
        return None
    if colon and argument != "migrating":
        # not shown: somebody may have put a key there
        raise ConfigurationError(f"codec=encrypt takes the argument migrating, or none; keys come from {VARIABLE}")
    return EncryptionLayer(read_keys(os.environ.get(VARIABLE, "")), migrating=bool(colon))
