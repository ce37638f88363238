"""`OtelSettings`: exporters, detail and flush timeout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from cano import ConfigurationError
from cano.options import Text, one_of, seconds

EXPORTERS = ("otlp", "console", "none")
DETAILS = ("run", "step", "attempt")
SIGNALS = ("traces", "metrics")


@dataclass(frozen=True, slots=True)
class OtelSettings:
    """Settings of the plugin: exporters, detail and flush timeout.

    Attributes:
        traces, metrics: the exporter of each signal, used if the application has set no provider: "otlp", "console",
            "none", or the name of another installed exporter. Separate several with commas.
        protocol: the protocol of the "otlp" exporter: "http/protobuf" or "grpc".
        detail: the finest spans: "run", "step" or "attempt" (which includes the phases of nodes).
        flush_timeout: seconds that a closing kernel, or an exiting process, waits for unsent telemetry.

    Raises:
        ConfigurationError: a value is out of range.
    """

    traces: str = "none"
    metrics: str = "none"
    protocol: str = "http/protobuf"
    detail: str = "attempt"
    flush_timeout: float = 2.0

    def __post_init__(self) -> None:
        one_of("detail", self.detail, DETAILS)
        seconds("flush_timeout", self.flush_timeout, most=86_400)
        one_of("protocol", self.protocol, ("http/protobuf", "grpc"))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> OtelSettings:
        """Read `CANO_OTEL_EXPORTER`, `CANO_OTEL_DETAIL`, `CANO_OTEL_FLUSH_TIMEOUT` and the standard `OTEL_…`.

        Raises:
            ConfigurationError: a variable has a wrong value.
        """
        env = os.environ if environment is None else environment
        own = env.get("CANO_OTEL_EXPORTER", "").strip()
        if own:
            one_of("CANO_OTEL_EXPORTER", own, EXPORTERS)
        limit = Text(env.get("CANO_OTEL_FLUSH_TIMEOUT", "").strip() or "2")
        traces, metrics = (own or _standard(env, signal) for signal in SIGNALS)
        try:
            return cls(
                traces=traces,
                metrics=metrics,
                protocol=env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip() or "http/protobuf",
                detail=env.get("CANO_OTEL_DETAIL", "").strip() or "attempt",
                flush_timeout=seconds("CANO_OTEL_FLUSH_TIMEOUT", limit, most=86_400),
            )
        except ConfigurationError as error:
            error.add_note("set by an environment variable CANO_OTEL_… or OTEL_…")
            raise


def _standard(env: Mapping[str, str], signal: str) -> str:
    """Return the exporter that the standard variables name. If only an endpoint is set, that is "otlp"."""
    upper = signal.upper()
    if asked := env.get(f"OTEL_{upper}_EXPORTER", "").strip():
        return asked
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT")
    return "otlp" if any(env.get(name, "").strip() for name in endpoints) else "none"
