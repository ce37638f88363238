"""`cano validate`: check a workflow's definition."""

from __future__ import annotations

import enum
from typing import Any

import click
from cano import ConfigurationError, PluginError, ValidationError, Workflow, state_name, undeclared

from cano_cli.errors import USAGE_ERROR, tracebacks, usage_error
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, executor_option, flow_argument, json_option


@click.command()
@flow_argument
@json_option
@executor_option
@click.pass_context
def validate(ctx: click.Context, *, target: str, traceback: bool, as_json: bool) -> None:
    """Check a workflow without running it.

    Prints a summary, or every problem of the definition. Members of the states' enum that the workflow does not use
    are listed, too; another workflow may share the enum. An installed plugin must provide each retry strategy that the
    workflow names, and --executor each executor. The exit code is 0 if the workflow is valid, otherwise 2.
    """
    settings: Settings = ctx.obj
    with tracebacks(traceback):
        flow = load_flow(target)
        try:
            settings.kernel().bind(flow)
        except (ConfigurationError, ValidationError, PluginError) as error:
            if as_json:
                problems = error.problems if isinstance(error, ValidationError) else [str(error)]
                click.echo(dumps({"ok": False, "workflow": flow.name, "problems": problems}, indent=2))
                ctx.exit(USAGE_ERROR)
            raise usage_error(error) from error
    used = {flow.start, *flow.tasks, *flow.exit_states}
    if as_json:
        answer = {
            "ok": True, "workflow": flow.name, "version": flow.version, "states": len(used), "problems": [],
            "unused": [state_name(state) for state in _unused(flow, used)],
            "undeclared": [state_name(state) for state in undeclared(flow)],
        }  # fmt: skip
        click.echo(dumps(answer, indent=2))
        return
    start, exits = _shown(flow.start), ", ".join(map(_shown, flow.exit_states))
    click.echo(f"ok: workflow {flow.name!r} version {line(flow.version)}: {len(used)} states, from {start} to {exits}")
    if unused := _unused(flow, used):
        click.echo(f"not used: {', '.join(map(_shown, unused))} of {type(flow.start).__name__}")
    if open_ended := undeclared(flow):
        names = ", ".join(map(_shown, open_ended))
        click.echo(f"not checked: the next states of {names}, whose tasks do not declare them")


def _unused(flow: Workflow[Any], used: set[Any]) -> list[Any]:
    """Return the members of the states' enum that the workflow does not use."""
    kind = type(flow.start)
    return [state for state in kind if state not in used] if issubclass(kind, enum.Enum) else []


def _shown(state: Any) -> str:
    return line(state_name(state))
