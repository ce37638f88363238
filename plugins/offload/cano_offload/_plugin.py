"""The plugin: its entry point leads here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cano import ConfigurationError, hookimpl
from cano.options import Text, file_mode

if TYPE_CHECKING:
    from cano_offload import LimitLayer, OffloadLayer

CANO_API_VERSION = 2


@hookimpl
def cano_codec_layer(spec: str) -> LimitLayer | OffloadLayer | None:
    """Return the layer for `limit:SIZE`, `offload:SIZE:FOLDER` or `offload:SIZE:FOLDER:file_mode=MODE`."""
    name, _, arguments = spec.partition(":")
    if name not in ("limit", "offload"):
        return None
    from cano_offload import Folder, LimitLayer, OffloadLayer, size_in_bytes  # late: most programs need none

    if name == "limit":
        return LimitLayer(size_in_bytes(arguments))
    size, _, folder = arguments.partition(":")
    if not folder:
        raise ConfigurationError(f"codec={spec} names no folder; write offload:SIZE:FOLDER, as in offload:1MiB:blobs")
    path, option, mode = folder.rpartition(":file_mode=")
    if not option:
        return OffloadLayer(size_in_bytes(size), Folder(folder))
    return OffloadLayer(size_in_bytes(size), Folder(path, file_mode=file_mode("file_mode", Text(mode))))


@hookimpl
def cano_commands(app: Any) -> None:
    """Add `cano offload-sweep`."""
    from cano_offload.cli import add_sweep

    add_sweep(app)
