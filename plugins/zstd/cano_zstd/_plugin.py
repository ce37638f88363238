"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import hookimpl
from cano.options import Text, whole

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
    return ZstdLayer(whole("zstd's level", Text(level), LEVELS[0], LEVELS[-1]))
