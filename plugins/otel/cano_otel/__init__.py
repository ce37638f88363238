"""OpenTelemetry traces and metrics of Cano's runs."""

from cano_otel.plugin import Otel
from cano_otel.settings import OtelSettings
from cano_otel.tree import SpanTree

__all__ = ["Otel", "OtelSettings", "SpanTree"]
