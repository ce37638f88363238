"""Many runs: which line each belongs to, how it ended, and what is printed of it, in the order of the lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import click
from cano import CanoError, Failed, Run, RunStatus, Success, Workflow, WorkflowResult, hookimpl, state_name

from cano_cli.failure import failure_of
from cano_cli.jsonable import dumps
from cano_cli.lines import Lines

SHOWN = 5
"""So many errors are shown to people."""


class BadLineError(CanoError):
    """A line holds no JSON object."""


@dataclass(slots=True)
class Entry:
    """A line that was read.

    Attributes:
        number, size: see `Line`.
        index: which of the stores that were handed out is its own; None where it has none.
        data: its run's data, until that has ended.
        run: its run, from its beginning to its end.
        began: when that was.
        answer: what is to be printed of it; None as long as it has not ended.
    """

    number: int
    size: int
    index: int | None = None
    data: dict[str, Any] | None = None
    run: Run | None = None
    began: float = 0.0
    answer: str | None = None


class Batch:
    """An observer of one kernel that runs one workflow on many stores, and the one who hands these out.

    Args:
        flow: the workflow.
        lines: where the stores come from.
        first: data that all runs begin with; a line's own is put over it.
        output: where to print a line of JSON for each run, if that is wanted.
        quota: how many runs are to succeed, if not all.

    Attributes:
        succeeded, failed, cancelled: how many have ended so; a line that cannot be read has failed.
        bytes_done: how much of the file has been dealt with.
        failures: the first few: number of the line, message, place.
        all_read: whether every line of the file was read.
        broken: why nothing can be printed any more.
    """

    def __init__(
        self, flow: Workflow[Any], lines: Lines, first: Mapping[str, Any], output: TextIO | None, quota: int | None
    ) -> None:
        self.lines = lines
        self.quota = quota
        self.succeeded = self.failed = self.cancelled = 0
        self.bytes_done = 0
        self.failures: list[tuple[int, str, str]] = []
        self.all_read = False
        self.broken: OSError | None = None
        self._flow = flow
        self._first = first
        self._output = output
        self._handed_out = 0
        self._began = time.monotonic()
        self._ended: float | None = None
        self._by_store: dict[int, Entry] = {}  # by the identity of the dict that was handed out
        self._by_run: dict[str, Entry] = {}
        self._open: dict[int, Entry] = {}  # by number of the line
        self._queue: deque[Entry] = deque()  # what is to be printed, in the order of the lines

    @property
    def running(self) -> int:
        """How many lines were read whose run has not ended."""
        return len(self._open)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    @property
    def rate(self) -> float:
        """How many runs have ended in a second."""
        return (self.succeeded + self.failed) / max(self.seconds, 1e-9)

    async def stores(self) -> AsyncIterator[dict[str, Any]]:
        """The data of each run: a dict, into which the kernel writes."""
        async for line in self.lines:
            if self.broken is not None:
                return
            entry = self._open[line.number] = Entry(line.number, line.size)
            if self._output is not None:
                self._queue.append(entry)
            if line.data is None:
                self._fail(entry, BadLineError(line.problem))
                continue
            entry.index, entry.data = self._handed_out, {**self._first, **line.data}
            self._handed_out += 1
            self._by_store[id(entry.data)] = entry
            yield entry.data
        self.all_read = True

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Note which line the run belongs to."""
        entry = self._by_store.pop(id(run.view.base), None)
        if entry is not None:
            entry.run, entry.began = run, time.monotonic()
            self._by_run[run.run_id] = entry

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Note how it ended."""
        entry = self._by_run.pop(run.run_id, None)
        if entry is None:
            return
        if run.status is RunStatus.SUCCEEDED:
            self._succeed(entry, run.state, run.result(run.state).data, run.steps)
        elif run.status is RunStatus.FAILED and run.error is not None:
            self._fail(entry, run.error)
        else:
            self._cancel(entry)

    def end(self, results: Sequence[WorkflowResult[Any]] = ()) -> None:
        """Nothing runs any more.

        Args:
            results: how the runs ended, in the order of the stores, as far as known.
        """
        self._ended = time.monotonic()
        for entry in list(self._open.values()):
            result = None
            if entry.index is not None and entry.index < len(results):
                result = results[entry.index]
            if isinstance(result, Success):
                self._succeed(entry, result.state, entry.data, None)
            elif isinstance(result, Failed):
                self._fail(entry, result.error)
            else:
                self._cancel(entry)

    def _succeed(self, entry: Entry, state: Any, data: Any, steps: int | None) -> None:
        self.succeeded += 1
        self._settle(entry, {"status": "succeeded", "state": state_name(state), "steps": steps, "data": data})

    def _fail(self, entry: Entry, error: BaseException) -> None:
        self.failed += 1
        answer: dict[str, Any] = {}
        if self._output is not None or len(self.failures) < SHOWN:
            failure = failure_of(error, self._flow, entry.run)
            answer = failure.as_json()
            if len(self.failures) < SHOWN:
                self.failures.append((entry.number, failure.message, failure.place or ""))
        self._settle(entry, answer)

    def _cancel(self, entry: Entry) -> None:
        self.cancelled += 1
        state = None if entry.run is None else state_name(entry.run.state)
        self._settle(entry, {"status": "cancelled", "state": state})

    def _settle(self, entry: Entry, answer: dict[str, Any]) -> None:
        del self._open[entry.number]
        self.bytes_done += entry.size
        if self._output is None:
            return
        run_id = None if entry.run is None else entry.run.run_id
        seconds = 0.0 if entry.run is None else time.monotonic() - entry.began
        head = {"line": entry.number, "status": None, "run_id": run_id, "workflow": self._flow.name}
        entry.answer = dumps({**head, **answer, "seconds": round(seconds, 6)})
        entry.run = entry.data = None
        while self._queue and (text := self._queue[0].answer) is not None:
            self._queue.popleft()
            self._print(text)

    def _print(self, text: str) -> None:
        if self.broken is None:
            try:
                click.echo(text, file=self._output)
            except OSError as error:
                self.broken = error
