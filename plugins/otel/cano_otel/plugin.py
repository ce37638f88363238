"""The plugin: observers where there is somebody to tell, and nothing at all where there is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cano import hookimpl

from cano_otel.flush import Flusher
from cano_otel.providers import applications, disabled, own
from cano_otel.settings import SIGNALS, OtelSettings

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


class Otel:
    """Traces and measures runs with OpenTelemetry.

    Installing cano-otel is enough to have one. It uses the providers that the application has set by the time the
    kernel loads its plugins; for what is not set it makes its own, if the environment asks for an exporter. Otherwise
    it adds no listener to any run, and does not import OpenTelemetry.

    For other providers: `Kernel(plugins=[Otel(tracer_provider=…, meter_provider=…)], block=["otel"])`.

    Args:
        settings: by default what the environment says.
        tracer_provider, meter_provider: where spans and measurements go. Where either is given, nothing is looked
            for: the other one, if None, is done without.
    """

    CANO_API_VERSION = 2

    def __init__(
        self,
        settings: OtelSettings | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._settings = OtelSettings.from_environment() if settings is None else settings
        self._given = (tracer_provider, meter_provider)

    @hookimpl
    def cano_add_hookspecs(self, pm: Any) -> None:
        """Register the observers: all plugins are loaded by now, and no workflow is bound."""
        tracers, meters = self._providers()
        if tracers is not None:
            from cano_otel.traces import Traces

            pm.register(Traces(tracers, self._settings.detail))
        if meters is not None:
            from cano_otel.metrics import Metrics

            pm.register(Metrics(meters))
        if tracers is not None or meters is not None:
            pm.register(Flusher((tracers, meters), self._settings.flush_timeout, own.at_exit))

    @hookimpl
    def cano_commands(self, app: Any) -> None:
        """Add `--trace` to the commands that drive a run."""
        from cano_otel.cli import add_trace_option

        add_trace_option(app)

    def _providers(self) -> tuple[Any, Any]:
        if any(provider is not None for provider in self._given):
            return self._given
        if disabled():
            return None, None
        tracers, meters = (applications(signal) or own.provider(signal, self._settings) for signal in SIGNALS)
        return tracers, meters
