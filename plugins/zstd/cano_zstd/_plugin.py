"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import ConfigurationError, hookimpl

from cano_zstd.layer import LEVELS, ZstdLayer

CANO_API_VERSION = 2


@hookimpl
def cano_codec_layer(spec: str) -> ZstdLayer | None:
    """Return the layer for `zstd` or `zstd:LEVEL`."""
    name, colon, level = spec.partition(":")
    if name != "zstd":
        return None
    if not colon:
        return ZstdLayer()
    if not (level.isascii() and level.isdecimal() and len(level) < 3):
        raise ConfigurationError(f"codec={spec}: the level must be a number from {LEVELS[0]} to {LEVELS[-1]}")
    return ZstdLayer(int(level))
