"""`cano graph`: draw a workflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from cano import ConfigurationError, Kernel, RunView, Transition, Workflow, edges, state_name, undeclared

from cano_cli.errors import CliError, tracebacks, usage_error
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, files, flow_argument, json_option, store_option
from cano_cli.stores import with_store
from cano_cli.tables import plain
from cano_cli.values import register_types


@click.command()
@flow_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "text", "dot", "svg"]),
    help="mermaid, dot (Graphviz) and svg are drawings; text is one line for each state. By default mermaid, or what "
    "the name of the output file ends with.",
)
@click.option("-o", "--output", metavar="FILE", shell_complete=files, help="Write to FILE, which is replaced.")
@click.option("--run", metavar="RUN", help="Draw this run of the workflow over it: its path and visits. For svg only.")
@click.option("--around", metavar="STATE", help="Draw only what is near STATE. For svg only.")
@store_option
@json_option
@click.pass_context
def graph(
    ctx: click.Context, *, target: str, traceback: bool, form: str | None, output: str | None, run: str | None,
    around: str | None, store: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Draw a workflow, or the path of a run through it.

    If a task does not declare its next states, the drawing shows that any state may follow.

    Example: cano graph shop.orders:flow -o order.svg --run order-17 --store sqlite:///runs.db
    """
    form = form or ENDINGS.get(Path(output or "").suffix, "mermaid")
    if form != "svg" and (run or around):
        option = "--run" if run else "--around"
        raise click.UsageError(f"{option} is for pictures; add --format svg, or -o FILE.svg.", ctx)
    with tracebacks(traceback):
        flow = load_flow(target)
    if as_json:
        drawn = dumps(as_data(flow), indent=2) + "\n"
    elif form == "svg":
        seen = None if run is None else _seen(ctx.obj, store, flow, run)
        drawn = _as_svg(flow, seen, around)
    else:
        drawn = FORMATS[form](flow)
    if output is None:
        click.echo(drawn, nl=False)
        return
    try:
        Path(output).write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise CliError(f"the file {word(output)} cannot be written: {error.strerror}") from error
    click.echo(f"workflow {line(flow.name)} drawn in {word(output)}")


def _seen(settings: Settings, store: str | None, flow: Workflow[Any], run_id: str) -> tuple[RunView, list[Transition]]:
    """Return a run and its history."""

    async def action(kernel: Kernel) -> tuple[RunView, list[Transition]]:
        register_types(kernel, [flow])
        return await kernel.get(run_id), await kernel.history(run_id)

    view, history = with_store(settings, store, action)
    if view.workflow != flow.name:
        raise CliError(f"run {word(run_id)} is of workflow {word(view.workflow)}, not of {word(flow.name)}")
    return view, history


def _as_svg(flow: Workflow[Any], seen: tuple[RunView, list[Transition]] | None, around: str | None) -> str:
    view, history = seen or (None, [])
    try:
        return flow.svg(view, history, around=around)
    except ConfigurationError as error:
        raise usage_error(error) from error


def as_data(flow: Workflow[Any]) -> dict[str, Any]:
    """Return the workflow for programs: each state with its task, whether it is an exit, and its next states."""
    open_ended, targets = set(undeclared(flow)), _targets(flow)
    states = [
        {
            "state": state_name(state),
            "task": flow.tasks[state].task.name if state in flow.tasks else None,
            "exit": state in flow.exit_states,
            "next": [state_name(target) for target in targets[state]],
            "undeclared": state in open_ended,
        }
        for state in _states(flow)
    ]
    return {"workflow": flow.name, "version": flow.version, "start": state_name(flow.start), "states": states}


def as_text(flow: Workflow[Any]) -> str:
    """Draw one line for each state: its name, start or exit, its task, and its next states."""
    open_ended = set(undeclared(flow))
    targets = _targets(flow)
    rows = []
    for state in _states(flow):
        task = flow.tasks[state].task.name if state in flow.tasks else ""
        arrow = "-> " + ", ".join(map(state_name, targets[state])) if targets[state] else ""
        if state in open_ended:
            arrow += ", or any state (undeclared)" if arrow else "-> any state (undeclared)"
        rows.append([line(state_name(state)), _marks(flow, state), line(task), line(arrow)])
    return "".join(f"{line}\n" for line in plain(rows))


def as_dot(flow: Workflow[Any]) -> str:
    """Draw a Graphviz digraph: exit states have a double border; a dashed edge means that any state may follow."""
    states = _states(flow)
    ids = {state: f"s{number}" for number, state in enumerate(states)}
    lines = [
        f"digraph {_quoted(line(flow.name))} {{",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="sans-serif"];',
        "  start [shape=point];",
    ]
    for state in states:
        label = line(state_name(state))
        if state in flow.tasks:
            label += f"\n{line(flow.tasks[state].task.name)}"
        look = ", peripheries=2" if state in flow.exit_states else ""
        if _is_undefined(flow, state):
            label, look = f"{label}\nno task", ", color=red"
        lines.append(f"  {ids[state]} [label={_quoted(label)}{look}];")
    lines.append(f"  start -> {ids[flow.start]};")
    lines += [f"  {ids[source]} -> {ids[target]};" for source, target in edges(flow)]
    if open_ended := undeclared(flow):
        lines.append('  any [label="any state", shape=plaintext];')
        lines += [f"  {ids[state]} -> any [style=dashed];" for state in open_ended]
    return "\n".join([*lines, "}"]) + "\n"


FORMATS: dict[str, Callable[[Workflow[Any]], str]] = {"mermaid": Workflow.mermaid, "text": as_text, "dot": as_dot}
ENDINGS = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".txt": "text"}
"""The formats by the ends of file names."""


def _states(flow: Workflow[Any]) -> list[Any]:
    """Return every state that the workflow mentions, registered or not, the start state first."""
    return list(dict.fromkeys([flow.start, *flow.tasks, *flow.exit_states, *(target for _, target in edges(flow))]))


def _targets(flow: Workflow[Any]) -> dict[Any, list[Any]]:
    targets: dict[Any, list[Any]] = defaultdict(list)
    for source, target in edges(flow):
        targets[source].append(target)
    return targets


def _marks(flow: Workflow[Any], state: Any) -> str:
    marks = ["start"] if state == flow.start else []
    if state in flow.exit_states:
        marks.append("exit")
    if _is_undefined(flow, state):
        marks.append("no task")
    return f"({', '.join(marks)})" if marks else ""


def _is_undefined(flow: Workflow[Any], state: Any) -> bool:
    """Return whether `state` has no task and is not an exit state, which makes the workflow invalid."""
    return state not in flow.tasks and state not in flow.exit_states


def _quoted(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{quoted}"'
