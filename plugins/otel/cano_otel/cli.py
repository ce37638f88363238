"""The option `--trace` of `cano run` and `cano resume`."""

from __future__ import annotations

from typing import Any

COMMANDS = ("run", "resume")
OPTION = "trace"


def add_trace_option(app: Any) -> None:
    """Add the option --trace to `run` and `resume`. It prints the span tree to stderr when the command ends.

    Args:
        app: the `click.Group` of the `cano` command.
    """
    import click

    for name in COMMANDS:
        command = app.commands.get(name)
        # apps share their command objects, so an earlier app may have added the option already
        if command is not None and all(option.name != OPTION for option in command.params):
            command.params.append(
                click.Option(
                    ["--trace"],
                    is_flag=True,
                    expose_value=False,
                    callback=_start_tracing,
                    help="Print the run's spans as a tree with durations to stderr when the run ends.",
                )
            )


def _start_tracing(ctx: Any, option: Any, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from cano_otel.tree import SpanTree

    tree = SpanTree()
    ctx.obj = _TracedSettings(ctx.obj, tree)

    def end() -> None:
        from rich.console import Console

        tree.print(Console(stderr=True))

    ctx.call_on_close(end)


class _TracedSettings:
    """The command's settings with one more plugin in each kernel."""

    def __init__(self, settings: Any, plugin: Any) -> None:
        self._settings = settings
        self._plugin = plugin

    def kernel(self, **options: Any) -> Any:
        """Return a new kernel."""
        return self._settings.kernel(**{**options, "plugins": [*options.get("plugins", ()), self._plugin]})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settings, name)
