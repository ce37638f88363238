"""`cano run --many --store --run-id`: a batch in a store, which continues when the command is repeated."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, TextIO

import click
from cano import (
    BatchOutcome,
    ConcurrentWorkflow,
    ConcurrentWorkflowStatus,
    Failed,
    RunInterruptedError,
    Success,
    Workflow,
    state_name,
)

from cano_cli.batch import ERRORS_SHOWN, BadLineError
from cano_cli.errors import FAILED, STOPPED, usage_error
from cano_cli.execution import report_unhandled
from cano_cli.failure import failure_of
from cano_cli.hints import command, filter_value, word
from cano_cli.jsonable import dumps
from cano_cli.lines import Lines
from cano_cli.many import Many, show_summary
from cano_cli.progress import batch_progress, live_view
from cano_cli.report import show_failure
from cano_cli.settings import Settings
from cano_cli.stores import USAGE_ERRORS


class StoredBatch:
    """The progress of a batch in a store. It has the attributes of `cano_cli.batch.Batch`, which documents them."""

    def __init__(
        self, flow: Workflow[Any], lines: Lines, initial: Mapping[str, Any], output: TextIO | None, quota: int | None
    ) -> None:
        self.lines = lines
        self.quota = quota
        self.succeeded = self.failed = self.cancelled = self.running = 0
        self.bytes_done = 0
        self.failures: list[tuple[int, str, str]] = []
        self.all_read = False
        self._flow = flow
        self._initial = initial
        self._output = output
        self._ended_here = 0
        self._began = time.monotonic()
        self._skips: list[tuple[int, int]] = []  # numbers of inputs after blank lines, and those of their lines

    @property
    def seconds(self) -> float:
        """The seconds that this command has taken so far."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Runs per second that ended during this command."""
        return self._ended_here / max(self.seconds, 1e-9)

    @property
    def nothing_was_read(self) -> bool:
        """Whether no line was read, as of a batch that had ended before."""
        return not self.bytes_done and not self.all_read

    async def inputs(self) -> AsyncIterator[Any]:
        """Yield the data of each line, or a `Failed` for one that is invalid."""
        number = expected = 0
        async for line in self.lines:
            number, expected = number + 1, expected + 1
            if line.number != expected:
                self._skips.append((number, line.number))
                expected = line.number
            self.bytes_done += line.size
            yield Failed(BadLineError(line.problem)) if line.data is None else {**self._initial, **line.data}
        self.all_read = True

    def note(self, status: ConcurrentWorkflowStatus) -> None:
        """Take over the counts of the batch, with those of earlier commands."""
        self.succeeded, self.failed, self.cancelled = status.completed, status.failed, status.cancelled
        self.running = status.running

    def show(self, outcome: BatchOutcome) -> None:
        """Print the end of a run, and remember its error for the summary."""
        self._ended_here += 1
        result, line = outcome.result, self._line_of(outcome.number)
        answer: dict[str, Any] = {"status": "cancelled", "state": None}
        if isinstance(result, Success):
            answer = {"status": "succeeded", "state": state_name(result.state)}
            if outcome.run is not None:
                answer |= {"steps": outcome.run.steps, "data": outcome.run.data}
        elif isinstance(result, Failed) and (self._output is not None or len(self.failures) < ERRORS_SHOWN):
            failure = failure_of(result.error, self._flow, None)
            answer = failure.as_json()
            if len(self.failures) < ERRORS_SHOWN:
                self.failures.append((line, failure.message, failure.place or ""))
        if self._output is not None:
            head = {"line": line, "status": None, "run_id": outcome.run_id, "workflow": self._flow.name}
            click.echo(dumps({**head, **answer, "run_id": outcome.run_id}), file=self._output)

    def _line_of(self, number: int) -> int:
        skips = bisect.bisect_right(self._skips, (number, number**2))
        first, line = self._skips[skips - 1] if skips else (1, 1)
        return line + number - first


def run_many_stored(given: Many) -> None:
    """Run the workflow once for each line of the file as children of a run in the store. See `run_many`.

    The lines of JSON are printed in the order in which the runs end.
    """
    ctx, flow, output = given.ctx, given.flow, given.output
    settings: Settings = ctx.obj
    run_id: str = ctx.params["run_id"]
    status: ConcurrentWorkflowStatus | None = None
    failed_runs = f"parent = {filter_value(run_id)} and status = failed"
    resumable = 0

    async def work() -> None:
        nonlocal status, resumable
        asyncio.get_running_loop().set_exception_handler(report_unhandled)
        options = {"store": ctx.params["store"], "lease": ctx.params["lease"]}
        async with settings.kernel(quiet=True, **options) as kernel:
            try:
                concurrent = ConcurrentWorkflow(flow, limit=given.limit, kernel=kernel, progress=batch.note)
                ended = concurrent.execute_durable(batch.inputs(), run_id, given.strategy)
                async for outcome in ended:
                    batch.show(outcome)
                status = ended.status
                if status is not None and status.failed:  # an invalid line has no run, and a run may have been resumed
                    resumable = await kernel.runs(where=failed_runs).count()
            finally:
                await kernel.close(grace=0)

    with Lines(given.file) as lines:
        batch = StoredBatch(flow, lines, given.initial, output, given.quota)
        code, failure = FAILED, None
        with live_view(lambda: batch_progress(batch), wanted=given.has_bar):
            try:
                asyncio.run(work())
            except (KeyboardInterrupt, RunInterruptedError):
                code = STOPPED
            except BrokenPipeError:  # the reader of the JSON lines has gone
                raise
            except USAGE_ERRORS as error:
                raise usage_error(error) from error
            except (Exception, SystemExit) as error:  # noqa: BLE001  # any error is reported below
                failure = failure_of(error, flow, None)
    if status is not None:
        batch.note(status)
    ended_by = None if status is None else status.ended_by
    show_summary(batch, ended_by, given.duration, err=output is not None)
    if code == STOPPED:
        click.echo("Interrupted: to continue the batch, repeat the command", err=True)
    elif failure is not None:
        show_failure(failure, traceback=given.traceback)
    if status is not None and batch.nothing_was_read:
        click.echo(f"batch {word(run_id)} had ended before; no line was read", err=True)
    if resumable:
        again = command(ctx, "resume", ctx.params["target"], "--where", failed_runs)
        click.echo(f"to resume the failed runs: {again}", err=True)
    if ended_by == "quota" or (ended_by == "all" and not batch.failed and not batch.cancelled):
        return
    ctx.exit(code)
