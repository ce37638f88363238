"""`--trace` for the commands of cano-cli that drive a run."""

from __future__ import annotations

from typing import Any

COMMANDS = ("run", "resume")
OPTION = "trace"


def add_trace_option(app: Any) -> None:
    """Give `run` and `resume` the option --trace, which prints the span tree on stderr when they end.

    Args:
        app: the `click.Group` of the command.
    """
    import click

    for name in COMMANDS:
        command = app.commands.get(name)
        # commands outlive the app that they are in: a second app has the option already
        if command is not None and all(option.name != OPTION for option in command.params):
            command.params.append(
                click.Option(
                    ["--trace"],
                    is_flag=True,
                    expose_value=False,
                    callback=_begin,
                    help="Print the tree of the run's spans, with durations, on stderr when it ends.",
                )
            )


def _begin(ctx: Any, option: Any, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from cano_otel.tree import SpanTree

    tree = SpanTree()
    ctx.obj = _Traced(ctx.obj, tree)

    def end() -> None:
        from rich.console import Console

        tree.print(Console(stderr=True))

    ctx.call_on_close(end)


class _Traced:
    """The command's settings, whose kernels have one plugin more."""

    def __init__(self, settings: Any, plugin: Any) -> None:
        self._settings = settings
        self._plugin = plugin

    def kernel(self, **options: Any) -> Any:
        """A new kernel."""
        return self._settings.kernel(**{**options, "plugins": [*options.get("plugins", ()), self._plugin]})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settings, name)
