"""Large values: `?codec=limit:SIZE` refuses them, `?codec=offload:SIZE:FOLDER` keeps them in files."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["Folder", "LimitLayer", "OffloadLayer", "size_in_bytes"]

if typing.TYPE_CHECKING:
    from cano_offload.folder import Folder
    from cano_offload.layer import LimitLayer, OffloadLayer
    from cano_offload.sizes import size_in_bytes
else:
    __getattr__, __dir__ = _lazy_names(
        __name__, {"folder": "Folder", "layer": "LimitLayer OffloadLayer", "sizes": "size_in_bytes"}
    )
