"""What is told of a run's end."""

from __future__ import annotations

from typing import Any

import click
from cano import RunResult, RunStatus, Workflow, state_name

from cano_cli.driving import Driver
from cano_cli.errors import FAILED, STOPPED, print_traceback
from cano_cli.failure import Failure
from cano_cli.jsonable import dumps
from cano_cli.recorder import HEADERS, Recorder
from cano_cli.records import counted
from cano_cli.tables import show
from cano_cli.times import show_seconds, when


def tell_end(ctx: click.Context, driver: Driver, ended: RunResult | Failure, *, as_json: bool, traceback: bool) -> None:
    """Print how a run ended; where it has not reached an exit state, end the command with the exit code for that."""
    if isinstance(ended, RunResult):
        if as_json:
            show_json(result_as_json(driver.flow, ended), driver)
        else:
            show_result(driver, ended)
        return
    if as_json:
        show_json(ended.as_json(), driver)
    show_failure(ended, traceback=traceback)
    ctx.exit(STOPPED if ended.stopped else FAILED)


def show_result(driver: Driver, result: RunResult) -> None:
    """Print the run's end for people, on stdout."""
    name = click.style(state_name(result.state), fg="green", bold=True)
    steps, workflow, recorder = counted(result.steps, "step"), driver.flow.name, driver.recorder
    if recorder.run is not None:
        seconds = show_seconds(recorder.seconds)
        click.echo(f"{workflow} ended in {name} after {steps} and {seconds} (run {result.run_id})")
    elif driver.earlier is not None and driver.earlier_status is RunStatus.SUCCEEDED:
        at = when(driver.earlier.updated)
        click.echo(f"{workflow} had ended in {name} after {steps} at {at}; nothing was run (run {result.run_id})")
    else:
        click.echo(f"{workflow} was driven elsewhere, and ended in {name} after {steps} (run {result.run_id})")
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


def show_json(answer: dict[str, Any], driver: Driver) -> None:
    """Print the run's end for programs: one JSON object on stdout."""
    click.echo(dumps({**answer, "earlier": earlier_as_json(driver), **timing(driver.recorder)}, indent=2))


def timing(recorder: Recorder) -> dict[str, Any]:
    """What `--json` says of the time that was spent here."""
    return {"seconds": round(recorder.seconds, 6), "states": recorder.as_json()}


def earlier_as_json(driver: Driver) -> dict[str, Any] | None:
    """What `--json` says of how a run stood that was there before."""
    if driver.earlier is None or driver.earlier_status is None:
        return None
    return {"status": driver.earlier_status.value, "state": driver.earlier.state, "steps": driver.earlier.seq}


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


def show_failure(failure: Failure, *, traceback: bool) -> None:
    """Print the failure for people, on stderr."""
    if traceback:
        print_traceback(failure.error)
    for line in failure.lines():
        click.echo(line, err=True)
    if not traceback and not failure.stopped:
        click.echo("  (--traceback prints the whole traceback)", err=True)
