"""OpenTelemetry traces and metrics of Cano's runs."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["Otel", "OtelSettings", "SpanTree"]

if typing.TYPE_CHECKING:
    from cano_otel.plugin import Otel
    from cano_otel.settings import OtelSettings
    from cano_otel.tree import SpanTree
else:
    __getattr__, __dir__ = _lazy_names(
        __name__,
        {
            "plugin": "Otel",
            "settings": "OtelSettings",
            "tree": "SpanTree",
        },
    )
