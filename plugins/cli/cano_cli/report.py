"""Printing the result of one run."""

from __future__ import annotations

from typing import Any

import click
from cano import RunResult, RunStatus, Workflow, state_name

from cano_cli.errors import FAILED, STOPPED, print_traceback
from cano_cli.execution import Execution
from cano_cli.failure import Failure
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.recorder import HEADERS, Recorder
from cano_cli.records import counted
from cano_cli.safe_lines import line
from cano_cli.tables import show
from cano_cli.times import show_seconds, when


def report_end(
    ctx: click.Context, execution: Execution, outcome: RunResult | Failure, *, as_json: bool, traceback: bool
) -> None:
    """Print the outcome of a run. If it is a failure, exit with the exit code for that."""
    if isinstance(outcome, RunResult):
        if as_json:
            show_json(result_as_json(execution.flow, outcome), execution)
        else:
            show_result(execution, outcome)
        return
    if as_json:
        show_json(outcome.as_json(), execution)
    show_failure(outcome, traceback=traceback)
    ctx.exit(STOPPED if outcome.stopped else FAILED)


def show_result(execution: Execution, result: RunResult) -> None:
    """Print a successful result for people, on stdout."""
    name = click.style(line(state_name(result.state)), fg="green", bold=True)
    run_id = word(result.run_id)
    steps, workflow, recorder = counted(result.steps, "step"), line(execution.flow.name), execution.recorder
    if recorder.run is not None:
        seconds = show_seconds(recorder.seconds)
        click.echo(f"{workflow} ended in {name} after {steps} and {seconds} (run {run_id})")
    elif execution.earlier is not None and execution.earlier_status is RunStatus.SUCCEEDED:
        at = when(execution.earlier.updated)
        click.echo(f"{workflow} ended in {name} after {steps} at {at}; nothing was run (run {run_id})")
    else:
        click.echo(f"{workflow} ended in {name} after {steps}, executed by another process (run {run_id})")
    if recorder.rows:
        click.echo()
        show(HEADERS, recorder.table())
    click.echo()
    show_data(result.data)


def show_data(data: Any) -> None:
    """Print a run's data for people."""
    if data:
        show(["key", "value"], [[str(key), dumps(value, ascii=False)] for key, value in data.items()])
    else:
        click.echo("no data")


def show_json(answer: dict[str, Any], execution: Execution) -> None:
    """Print the outcome for programs: one JSON object on stdout."""
    click.echo(dumps({**answer, "earlier": earlier_as_json(execution), **timing(execution.recorder)}, indent=2))


def timing(recorder: Recorder) -> dict[str, Any]:
    """Return the run's time in this process, and its states, as JSON."""
    return {"seconds": round(recorder.seconds, 6), "states": recorder.as_json()}


def earlier_as_json(execution: Execution) -> dict[str, Any] | None:
    """Return the run's stored status, state and steps from before this command, as JSON; None if it is new."""
    if execution.earlier is None or execution.earlier_status is None:
        return None
    return {"status": execution.earlier_status.value, "state": execution.earlier.state, "steps": execution.earlier.seq}


def result_as_json(flow: Workflow[Any], result: RunResult) -> dict[str, Any]:
    """Return a successful result as JSON."""
    return {
        "status": "succeeded",
        "run_id": result.run_id,
        "workflow": flow.name,
        "state": state_name(result.state),
        "steps": result.steps,
        "data": result.data,
    }


def show_failure(failure: Failure, *, traceback: bool) -> None:
    """Print a failure for people, on stderr."""
    if traceback:
        print_traceback(failure.error)
    for text in failure.lines():
        click.echo(text, err=True)
    if not traceback and not failure.stopped:
        click.echo("  (--traceback prints the full traceback)", err=True)
