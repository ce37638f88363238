"""The hooks of the plugin, found through the entry point. It imports little, because every kernel imports it."""

from __future__ import annotations

from typing import Any

from cano import hookimpl

CANO_API_VERSION = 2


@hookimpl
def cano_add_hookspecs(pm: Any) -> None:
    """Add the hooks with which plugins observe the scheduler."""
    from cano_scheduler import hookspecs

    pm.add_hookspecs(hookspecs)


@hookimpl
def cano_commands(app: Any) -> None:
    """Add `cano schedule`, which is imported when it is chosen."""
    import click

    class Schedule(click.Command):
        def make_context(self, *args: Any, **options: Any) -> click.Context:
            from cano_scheduler.cli import schedule

            return schedule.make_context(*args, **options)

    app.add_command(Schedule("schedule", help="Run and manage schedules."))
