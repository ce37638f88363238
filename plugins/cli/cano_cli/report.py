"""What is told of a run that reached an exit state."""

from __future__ import annotations

from typing import Any

import click
from cano import RunResult, Workflow, state_name

from cano_cli.jsonable import dumps
from cano_cli.recorder import HEADERS, Recorder, show_seconds
from cano_cli.tables import show


def show_result(flow: Workflow[Any], result: RunResult, recorder: Recorder) -> None:
    """Print the run's end for people, on stdout."""
    name = click.style(state_name(result.state), fg="green", bold=True)
    steps = "1 step" if result.steps == 1 else f"{result.steps} steps"
    click.echo(f"{flow.name} ended in {name} after {steps} and {show_seconds(recorder.seconds)} (run {result.run_id})")
    if recorder.rows:
        click.echo()
        show(HEADERS, recorder.table())
    if not result.data:
        click.echo("\nno data")
        return
    click.echo()
    show(["key", "value"], [[str(key), dumps(value, ascii=False)] for key, value in result.data.items()])


def show_json(answer: dict[str, Any], recorder: Recorder) -> None:
    """Print the run's end for programs: one JSON object on stdout."""
    timing = {"seconds": round(recorder.seconds, 6), "states": recorder.as_json()}
    click.echo(dumps({**answer, **timing}, indent=2))


def result_as_json(flow: Workflow[Any], result: RunResult) -> dict[str, Any]:
    """What `--json` says of a run that ended well."""
    return {
        "status": "succeeded",
        "run_id": result.run_id,
        "workflow": flow.name,
        "state": state_name(result.state),
        "steps": result.steps,
        "data": result.data,
    }
