"""The plugin: it registers observers if a provider or an exporter is configured, else nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from cano import hookimpl

from cano_otel.flush import Flusher
from cano_otel.providers import application_provider, own_providers, sdk_disabled
from cano_otel.settings import SIGNALS, OtelSettings

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider


class Otel:
    """A plugin that traces and measures runs with OpenTelemetry.

    Kernels load it if cano-otel is installed. It uses the providers that the application sets before the kernel loads
    its plugins. If one is not set and the environment names an exporter, the plugin makes a provider of its own.
    Otherwise it registers no listener and does not import OpenTelemetry.

    To pass providers: `Kernel(plugins=[Otel(tracer_provider=…, meter_provider=…)], block=["otel"])`.

    Args:
        settings: by default read from the environment.
        tracer_provider, meter_provider: receive the spans and the measurements. If either is given, the plugin looks
            for no other provider; None for the other one turns that signal off.
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
        self._calls: tuple[Tracer | None] | None = None

    @hookimpl
    def cano_add_hookspecs(self, pm: Any) -> None:
        """Register the observers. By now all plugins are loaded, and no workflow is bound yet."""
        tracers, meters = self._providers()
        if tracers is not None:
            from cano_otel.traces import Traces

            pm.register(Traces(tracers, self._settings.detail))
        if meters is not None:
            from cano_otel.metrics import Metrics

            pm.register(Metrics(meters))
        if tracers is not None or meters is not None:
            pm.register(Flusher((tracers, meters), self._settings.flush_timeout, own_providers.at_exit))

    @hookimpl(optionalhook=True)
    def cano_receive_context(self, context: Mapping[str, str]) -> AbstractContextManager[None] | None:
        """Return the context of a call that belongs to a trace, in the process of an executor."""
        if "traceparent" not in context or sdk_disabled():
            return None
        from cano_otel.calls import Execution  # late: every kernel and command imports this module

        return Execution(context, self._call_tracer())

    @hookimpl
    def cano_commands(self, app: Any) -> None:
        """Add `--trace` to the commands that execute a run."""
        from cano_otel.cli import add_trace_option

        add_trace_option(app)

    def _call_tracer(self) -> Tracer | None:
        """Return what starts the spans of calls. The first call has imported what sets the application's provider."""
        if self._calls is None:
            from cano_otel.names import SCOPE

            provider = self._provider("traces")
            traced = provider is not None and self._settings.detail == "attempt"
            self._calls = (provider.get_tracer(SCOPE) if traced else None,)
            own_providers.at_exit.open_kernels += 1  # no kernel is closed here, so the exit flushes
        return self._calls[0]

    def _provider(self, signal: str) -> Any:
        return application_provider(signal) or own_providers.provider(signal, self._settings)

    def _providers(self) -> tuple[Any, Any]:
        if any(provider is not None for provider in self._given):
            return self._given
        if sdk_disabled():
            return None, None
        tracers, meters = map(self._provider, SIGNALS)
        return tracers, meters
