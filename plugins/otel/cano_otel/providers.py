"""The OpenTelemetry providers: the application's or, if it has set none, our own."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from cano import ConfigurationError

from cano_otel.flush import AtExit

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from cano_otel.settings import OtelSettings

_API = {
    "traces": ("opentelemetry.trace", "get_tracer_provider"),
    "metrics": ("opentelemetry.metrics", "get_meter_provider"),
}
_VARIABLES = {"traces": "OTEL_PYTHON_TRACER_PROVIDER", "metrics": "OTEL_PYTHON_METER_PROVIDER"}


def sdk_disabled() -> bool:
    """Return whether OTEL_SDK_DISABLED switches OpenTelemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def application_provider(signal: str) -> Any:
    """Return the provider that the application has set, or None.

    Does not import OpenTelemetry if the application has not imported it either.
    """
    module, getter = _API[signal]
    if module not in sys.modules and not os.environ.get(_VARIABLES[signal]):
        return None
    provider = getattr(importlib.import_module(module), getter)()
    # until an application sets a provider, the API returns a placeholder of its own
    return None if type(provider).__module__.startswith("opentelemetry." + signal.removesuffix("s")) else provider


class OwnProviders:
    """The providers that this plugin makes from the environment, each on first use.

    All kernels of the process share them, because each provider has its own thread and connection. They live until
    the process exits.
    """

    def __init__(self) -> None:
        self.at_exit = AtExit()
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}

    def provider(self, signal: str, settings: OtelSettings) -> Any:
        """Return the provider for "traces" or "metrics", or None if `settings` name no exporter for it.

        Raises:
            ConfigurationError: the exporter is not installed.
        """
        exporters = exporter_names(settings.traces if signal == "traces" else settings.metrics)
        if not exporters:
            return None
        with self._lock:
            if signal not in self._made:
                made = [make_exporter(signal, name, settings.protocol) for name in exporters]
                self._made[signal] = provider = _tracers(made) if signal == "traces" else _meters(made)
                self.at_exit.add(provider, settings.flush_timeout)
            return self._made[signal]


def _tracers(exporters: list[Any]) -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider as Provider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = Provider(shutdown_on_exit=False)  # its own shutdown at exit waits without a limit
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _meters(exporters: list[Any]) -> MeterProvider:
    from opentelemetry.sdk.metrics import MeterProvider as Provider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return Provider([PeriodicExportingMetricReader(exporter) for exporter in exporters], shutdown_on_exit=False)


def exporter_names(exporters: str) -> list[str]:
    """Return the exporter names of a comma-separated list, without "none"."""
    return [name for part in exporters.split(",") if (name := part.strip()) and name != "none"]


def make_exporter(signal: str, name: str, protocol: str) -> Any:
    """Return a new exporter, which reads its options from the standard environment variables.

    Args:
        signal: "traces" or "metrics".
        name: its name, such as "otlp".
        protocol: "grpc" or "http/protobuf", for "otlp".

    Raises:
        ConfigurationError: the exporter is not installed.
    """
    if name == "otlp":
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    for point in importlib.metadata.entry_points(group=f"opentelemetry_{signal}_exporter", name=name):
        return point.load()()
    remedy = {
        "otlp_proto_http": "pip install 'cano-otel[otlp]'",
        "otlp_proto_grpc": "pip install opentelemetry-exporter-otlp-proto-grpc",
    }.get(name, "install the package that provides it")
    raise ConfigurationError(f"the exporter {name!r} for {signal} is not installed: {remedy}")


own_providers = OwnProviders()
