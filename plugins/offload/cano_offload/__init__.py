"""Large values: `?codec=limit:SIZE` refuses them, `?codec=offload:SIZE:FOLDER` keeps them in files."""

from cano_offload.folder import Folder
from cano_offload.layer import LimitLayer, OffloadLayer
from cano_offload.sizes import size_in_bytes

__all__ = ["Folder", "LimitLayer", "OffloadLayer", "size_in_bytes"]
