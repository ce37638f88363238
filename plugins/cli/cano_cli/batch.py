"""A batch: one run for each line of a file, with the results printed in the order of the lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

import click
from cano import CanoError, Failed, Run, RunStatus, Success, Workflow, WorkflowResult, hookimpl, state_name

from cano_cli.failure import failure_of
from cano_cli.jsonable import dumps
from cano_cli.lines import Lines

ERRORS_SHOWN = 5
"""How many errors the summary for people lists."""


class BadLineError(CanoError):
    """A line is not a JSON object."""


class Counts(Protocol):
    """The progress of a batch. `Batch` documents the attributes."""

    lines: Lines
    quota: int | None
    succeeded: int
    failed: int
    cancelled: int
    bytes_done: int
    failures: list[tuple[int, str, str]]
    all_read: bool

    @property
    def running(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def rate(self) -> float: ...


@dataclass(slots=True)
class LineRun:
    """A line of the file and its run.

    Attributes:
        number, size: see `Line`.
        index: the position of its data set among those that `data_sets` yielded; None if the line is invalid.
        data: the run's data, until the run has ended.
        run: the run, while it is executed.
        began: when the run began, on the monotonic clock.
        answer: the JSON line to print; None until the run has ended.
    """

    number: int
    size: int
    index: int | None = None
    data: dict[str, Any] | None = None
    run: Run | None = None
    began: float = 0.0
    answer: str | None = None


class Batch:
    """An observer that yields the data sets of a batch and prints the results of its runs.

    Args:
        flow: the workflow.
        lines: the lines with the runs' data.
        initial: data that all runs begin with; the data of a line overrides it.
        output: where to print a line of JSON for each run; None prints none.
        quota: the number of runs that must succeed; None if there is no quota.

    Attributes:
        succeeded, failed, cancelled: how many runs ended that way; an invalid line counts as failed.
        bytes_done: the size of the lines whose runs have ended.
        failures: the first failures: line number, message, place.
        all_read: whether every line of the file was read.
        output_error: the error after which nothing more is printed; None if there was none.
    """

    def __init__(
        self, flow: Workflow[Any], lines: Lines, initial: Mapping[str, Any], output: TextIO | None, quota: int | None
    ) -> None:
        self.lines = lines
        self.quota = quota
        self.succeeded = self.failed = self.cancelled = 0
        self.bytes_done = 0
        self.failures: list[tuple[int, str, str]] = []
        self.all_read = False
        self.output_error: OSError | None = None
        self._flow = flow
        self._initial = initial
        self._output = output
        self._yielded = 0
        self._began = time.monotonic()
        self._ended: float | None = None
        self._by_data: dict[int, LineRun] = {}  # key: id() of the data set
        self._by_run: dict[str, LineRun] = {}
        self._open: dict[int, LineRun] = {}  # key: line number
        self._queue: deque[LineRun] = deque()  # not yet printed, in the order of the lines

    @property
    def running(self) -> int:
        """The number of lines read whose runs have not ended."""
        return len(self._open)

    @property
    def seconds(self) -> float:
        """The seconds that the batch has taken so far."""
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    @property
    def rate(self) -> float:
        """Finished runs per second."""
        return (self.succeeded + self.failed) / max(self.seconds, 1e-9)

    async def data_sets(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the initial data of each run. The kernel writes the run's results into the same dict."""
        async for line in self.lines:
            if self.output_error is not None:
                return
            item = self._open[line.number] = LineRun(line.number, line.size)
            if self._output is not None:
                self._queue.append(item)
            if line.data is None:
                self._fail(item, BadLineError(line.problem))
                continue
            item.index, item.data = self._yielded, {**self._initial, **line.data}
            self._yielded += 1
            self._by_data[id(item.data)] = item
            yield item.data
        self.all_read = True

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Find the line that the run belongs to."""
        item = self._by_data.pop(id(run.view.base), None)
        if item is not None:
            item.run, item.began = run, time.monotonic()
            self._by_run[run.run_id] = item

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Record and print the run's result."""
        item = self._by_run.pop(run.run_id, None)
        if item is None:
            return
        if run.status is RunStatus.SUCCEEDED:
            self._succeed(item, run.state, run.result(run.state).data, run.steps)
        elif run.status is RunStatus.FAILED and run.error is not None:
            self._fail(item, run.error)
        else:
            self._cancel(item)

    def end(self, results: Sequence[WorkflowResult[Any]] = ()) -> None:
        """Record the results of all remaining runs, after the kernel has stopped.

        Args:
            results: the results in the order of the data sets; a run without one counts as cancelled.
        """
        self._ended = time.monotonic()
        for item in list(self._open.values()):
            result = None
            if item.index is not None and item.index < len(results):
                result = results[item.index]
            if isinstance(result, Success):
                self._succeed(item, result.state, item.data, None)
            elif isinstance(result, Failed):
                self._fail(item, result.error)
            else:
                self._cancel(item)

    def _succeed(self, item: LineRun, state: Any, data: Any, steps: int | None) -> None:
        self.succeeded += 1
        self._settle(item, {"status": "succeeded", "state": state_name(state), "steps": steps, "data": data})

    def _fail(self, item: LineRun, error: BaseException) -> None:
        self.failed += 1
        answer: dict[str, Any] = {}
        if self._output is not None or len(self.failures) < ERRORS_SHOWN:
            failure = failure_of(error, self._flow, item.run)
            answer = failure.as_json()
            if len(self.failures) < ERRORS_SHOWN:
                self.failures.append((item.number, failure.message, failure.place or ""))
        self._settle(item, answer)

    def _cancel(self, item: LineRun) -> None:
        self.cancelled += 1
        state = None if item.run is None else state_name(item.run.state)
        self._settle(item, {"status": "cancelled", "state": state})

    def _settle(self, item: LineRun, answer: dict[str, Any]) -> None:
        del self._open[item.number]
        self.bytes_done += item.size
        if self._output is None:
            return
        run_id = None if item.run is None else item.run.run_id
        seconds = 0.0 if item.run is None else time.monotonic() - item.began
        head = {"line": item.number, "status": None, "run_id": run_id, "workflow": self._flow.name}
        item.answer = dumps({**head, **answer, "seconds": round(seconds, 6)})
        item.run = item.data = None
        while self._queue and (text := self._queue[0].answer) is not None:
            self._queue.popleft()
            self._print(text)

    def _print(self, text: str) -> None:
        if self.output_error is None:
            try:
                click.echo(text, file=self._output)
            except OSError as error:
                self.output_error = error
