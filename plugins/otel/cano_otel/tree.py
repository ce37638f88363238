"""`SpanTree`: the spans of runs, printed as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cano import hookimpl

from cano_otel import names

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from rich.console import Console
    from rich.tree import Tree

MAX_SPANS = 1000
"""The number of spans to show. More are only counted."""


class SpanTree:
    """A plugin that keeps the spans of a kernel's runs and prints them as a tree with durations.

    Pass it to a kernel: `Kernel(plugins=[tree])`. It shares the spans of another tracing plugin, if there is one.
    """

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.more = 0

    @hookimpl(trylast=True)
    def cano_add_hookspecs(self, pm: Any) -> None:
        """Collect the spans of the kernel's tracer, or register a tracer."""
        from opentelemetry.sdk.trace import TracerProvider

        from cano_otel.collecting import Collector
        from cano_otel.traces import Traces

        for plugin in pm.get_plugins():
            if isinstance(plugin, Traces) and isinstance(plugin.provider, TracerProvider):
                provider = plugin.provider
                break
        else:
            provider = TracerProvider(shutdown_on_exit=False)
            pm.register(Traces(provider))
        provider.add_span_processor(Collector(self.add))

    def add(self, span: ReadableSpan) -> None:
        """Keep an ended span, or count it if there are `MAX_SPANS` already."""
        if len(self.spans) < MAX_SPANS:
            self.spans.append(span)
        else:
            self.more += 1

    def print(self, console: Console) -> None:
        """Print the spans kept so far."""
        if not self.spans:
            console.print("no spans: no run was started, or OTEL_TRACES_SAMPLER dropped it")
        for tree in self.trees():
            console.print(tree)
        if self.more:
            console.print(f"and {self.more} more spans")

    def trees(self) -> list[Tree]:
        """Return a tree for each span without a parent here, in the order of their start times."""
        from rich.tree import Tree

        spans = sorted(self.spans, key=lambda span: span.start_time or 0)
        nodes = {span.context.span_id: Tree(_label(span)) for span in spans if span.context is not None}
        roots = []
        for span in spans:
            node = nodes[span.context.span_id] if span.context is not None else Tree(_label(span))
            parent = None if span.parent is None else nodes.get(span.parent.span_id)
            if parent is None:
                roots.append(node)
            else:
                parent.children.append(node)
        return roots


def _label(span: ReadableSpan) -> str:
    """Return one line about a span, in rich's markup."""
    from rich.markup import escape

    attributes = span.attributes or {}
    text = span.name
    if span.name == names.ATTEMPT:
        text = f"{text} {attributes.get(names.NUMBER, 1)!s}"
    elif names.BRANCH_NAME in attributes:
        text = f"{names.BRANCH} {attributes[names.BRANCH_NAME]!s}"
    result = attributes.get(names.RESULT) or attributes.get(names.TASK_RESULT) or attributes.get(names.STATUS)
    notes = [] if result in (None, names.SUCCESS) else [str(result)]
    if (kind := attributes.get(names.ERROR_TYPE)) is not None:
        notes.append(str(kind))
    label = f"{escape(text)} [dim]{_seconds((span.end_time or 0) - (span.start_time or 0))}[/dim]"
    return label + (f" [red]{escape(': '.join(notes))}[/red]" if notes else "")


def _seconds(nanoseconds: int) -> str:
    for unit, size, digits in (("s", 10**9, 2), ("ms", 10**6, 1)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.{digits}f} {unit}"
    return f"{max(nanoseconds, 0) / 1000:.0f} µs"
