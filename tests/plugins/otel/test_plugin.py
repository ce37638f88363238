"""The plugin: which providers it uses, and that it registers nothing without one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cano import ConfigurationError, Kernel, PluginError, Workflow
from cano_otel import Otel, OtelSettings
from cano_otel.providers import exporter_names, make_exporter

RUN = """
import asyncio, sys
from cano import Kernel, Workflow
flow = Workflow("a", name="flow").add_exit_state("done")
@flow.on("a")
async def a(store):
    return "done"
async def main():
    async with Kernel(discover=False, plugins=["memory", "otel"]) as kernel:
        await kernel.run(flow)
        return kernel
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove OpenTelemetry's variables of the surrounding shell."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "CANO_OTEL_")):
            monkeypatch.delenv(name)


def python(code: str, **environment: str) -> str:
    """Run `code` after `RUN` and return its output; stderr must stay empty."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN + code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"CANO_OTEL_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "true", "CANO_OTEL_EXPORTER": "console"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_nothing_without_a_provider(environment: dict[str, str]) -> None:
    """Without a provider or exporter, no listener is registered and OpenTelemetry is not imported."""
    code = """
kernel = asyncio.run(main())
plan = kernel.bind(flow)
listeners = [name for name in type(plan).__slots__ if name.startswith(("run_", "step_", "transition_"))]
print(len(listeners) >= 8, [getattr(plan, name) for name in listeners if getattr(plan, name)])
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert python(code, **environment) == "True []\n[]\n"


def test_the_applications_providers_are_used() -> None:
    """The application's provider is used, and exporters in the environment are ignored."""
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
asyncio.run(main())
print([span.name for span in exporter.get_finished_spans()])
"""
    assert python(code, OTEL_TRACES_EXPORTER="console") == "['attempt', 'step a', 'RUN flow']\n"


def test_console_exporter() -> None:
    """With an exporter in the environment, spans and metrics are exported before the kernel is closed."""
    output = python("asyncio.run(main())\nprint('over')", CANO_OTEL_EXPORTER="console")

    before, _, after = output.partition("over")
    assert '"name": "RUN flow"' in before
    assert '"name": "cano.run.finished"' in before
    assert '"name": "RUN flow"' not in after


def test_a_kernel_that_is_never_closed() -> None:
    """Its runs' telemetry is exported when the process exits."""
    output = python("print(flow.orchestrate_sync({}))", OTEL_TRACES_EXPORTER="console", CANO_BLOCK="structlog")

    assert output.startswith("done\n")
    assert '"name": "RUN flow"' in output


def test_settings_from_the_environment() -> None:
    """The plugin's variables take precedence; an endpoint selects OTLP for its signals."""
    read = OtelSettings.from_environment

    assert read({}) == OtelSettings()
    assert read({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) == OtelSettings("otlp", "otlp")
    assert read({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}) == OtelSettings("otlp", "none")
    assert read({"OTEL_METRICS_EXPORTER": "console"}) == OtelSettings("none", "console")
    assert read(
        {
            "CANO_OTEL_EXPORTER": "console",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "CANO_OTEL_DETAIL": "step",
            "CANO_OTEL_FLUSH_TIMEOUT": "0.5",
        }
    ) == OtelSettings("console", "console", "grpc", "step", 0.5)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CANO_OTEL_EXPORTER", "carrier pigeon"),
        ("CANO_OTEL_FLUSH_TIMEOUT", "soon"),
        ("CANO_OTEL_FLUSH_TIMEOUT", "-1"),
        ("CANO_OTEL_FLUSH_TIMEOUT", "nan"),
        ("CANO_OTEL_DETAIL", "everything"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ],
)
def test_bad_settings(variable: str, value: str) -> None:
    """A wrong value is refused with an error that shows it."""
    with pytest.raises(ConfigurationError, match=value):
        OtelSettings.from_environment({variable: value})


def test_missing_exporter() -> None:
    """The error about a missing exporter names the exporter, the remedy and the plugin."""
    assert exporter_names("otlp, none,console,") == ["otlp", "console"]
    with pytest.raises(ConfigurationError, match="exporter-otlp-proto-grpc"):
        make_exporter("traces", "otlp", "grpc")
    with pytest.raises(PluginError, match="'pigeon' for traces is not installed"):
        Kernel(discover=False, plugins=[Otel(OtelSettings(traces="pigeon"))]).load()


async def test_hooks_are_the_kernels(make_kernel: Callable[..., Kernel]) -> None:
    """Every hook that the observers implement is specified, except an optional one."""
    kernel = make_kernel("scheduler", "msgspec", "remote")
    kernel.load()
    manager: Any = kernel._resources.plugins.manager

    unknown = {
        name for name in vars(manager.hook) if name.startswith("cano_") and not getattr(manager.hook, name).has_spec()
    }
    assert unknown <= {"cano_phase_started"}


async def test_two_kernels(make_kernel: Callable[..., Kernel]) -> None:
    """Kernels that share providers do not get into each other's way."""
    flow = Workflow("a", name="flow").add_exit_state("done")

    @flow.on("a")
    async def a(store: Any) -> str:
        return "done"

    async with make_kernel() as one, make_kernel() as two:
        assert (await one.run(flow)).state == (await two.run(flow)).state == "done"
        assert (one.observer_errors, two.observer_errors) == ({}, {})
