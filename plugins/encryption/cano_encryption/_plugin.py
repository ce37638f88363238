"""The plugin: its entry point leads here."""

from __future__ import annotations

import os

from cano import ConfigurationError, hookimpl

from cano_encryption.keys import KEYS_ENV, read_keys
from cano_encryption.layer import EncryptionLayer

CANO_API_VERSION = 2


@hookimpl
def cano_codec_layer(spec: str) -> EncryptionLayer | None:
    """Return the layer for `encrypt` or `encrypt:migrating`, with the keys from the environment."""
    name, colon, argument = spec.partition(":")
    if name != "encrypt":
        return None
    if colon and argument != "migrating":
        # the message does not show the argument, which may be a key by mistake
        raise ConfigurationError(f"codec=encrypt takes only the argument migrating; keys come from {KEYS_ENV}")
    return EncryptionLayer(read_keys(os.environ.get(KEYS_ENV, "")), migrating=bool(colon))
