"""The plugin: its entry point leads here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cano import ConfigurationError, hookimpl

if TYPE_CHECKING:
    from cano_encryption import EncryptionLayer

CANO_API_VERSION = 2


@hookimpl
def cano_codec_layer(spec: str) -> EncryptionLayer | None:
    """Return the layer for `encrypt`, with the keys from the environment. Its options are `migrating` and `errors`."""
    name, *options = spec.split(":")
    if name != "encrypt":
        return None
    from cano_encryption import KEYS_ENV, EncryptionLayer, read_keys  # late: most programs need none

    if not set(options) <= {"migrating", "errors"}:
        # the message does not show the argument, which may be a key by mistake
        raise ConfigurationError(f"codec=encrypt takes only migrating and errors; keys come from {KEYS_ENV}")
    keys = read_keys(os.environ.get(KEYS_ENV, ""))
    return EncryptionLayer(keys, migrating="migrating" in options, errors="errors" in options)


@hookimpl
def cano_commands(app: Any) -> None:
    """Add `cano reencrypt`."""
    from cano_encryption.cli import add_reencrypt

    add_reencrypt(app)
