"""Trace context on its way to the processes of executors, and the span of a call there."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Any

from cano import current_step
from cano.safe_text import escaped, safe_str
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cano_otel import names
from cano_otel.current import detach
from cano_otel.failures import error_type, result_of

_log = logging.getLogger("cano_otel")
_propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


def sent() -> dict[str, str]:
    """Return the current span and baggage as W3C headers."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


class Execution:
    """A context manager in which a call is executed: a part of the trace that it came with.

    An error of OpenTelemetry is logged. It fails no task.

    Args:
        context: W3C headers.
        tracer: starts the span of the call; None for none.
    """

    def __init__(self, context: Mapping[str, str], tracer: Tracer | None) -> None:
        self._context, self._tracer = context, tracer
        self._span: Span | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        try:
            context = _propagator.extract(self._context, Context())
            if self._tracer is not None:
                step = current_step()
                attributes: dict[str, Any] = {
                    names.RUN_ID: step.run_id,
                    names.TASK: step.task,
                    names.TASK_RUN_ID: step.idempotency_key,
                    names.WORKER: f"{socket.gethostname()}:{os.getpid()}",
                }
                self._span = self._tracer.start_span(names.CALL, context, SpanKind.SERVER, attributes)
                context = trace.set_span_in_context(self._span, context)
            self._token = attach(context)
        except Exception as error:  # noqa: BLE001  # the application's span processors may raise anything
            _warn(error)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        detach(self._token)
        try:
            if self._span is not None:
                self._span.set_attribute(names.TASK_RESULT, result_of(error))
                if error is not None:  # the attempt's span has its text and traceback
                    self._span.set_attribute(names.ERROR_TYPE, error_type(error))
                    self._span.set_status(StatusCode.ERROR)
                self._span.end()
        except Exception as problem:  # noqa: BLE001
            _warn(problem)


def _warn(error: Exception) -> None:
    _log.warning("a call could not be traced: %s", escaped(safe_str(error)))
