"""Driving one run to its end, and telling how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TextIO

import click
from cano import (
    ConflictError,
    Kernel,
    RunRecord,
    RunResult,
    RunStatus,
    VersionMismatchError,
    Workflow,
    WorkflowError,
    state_name,
)

from cano_cli.errors import CliError, refused
from cano_cli.failure import Failure, failure_of
from cano_cli.progress import live_view, states
from cano_cli.recorder import Recorder
from cano_cli.records import holder_of, status_of, waits_for
from cano_cli.settings import Settings
from cano_cli.stores import WRONG_QUESTIONS

Work = Callable[[Kernel], Awaitable[RunResult]]


class Driver:
    """Drives one run to its end, in an event loop of its own.

    Args:
        flow: the workflow.
        target: how the user has named it.
        run_id: the run's id, where it is known beforehand.
        patient: whether `work` waits for a run that is driven elsewhere.

    Attributes:
        recorder: what the run's states have done here; the kernel is to have it as a plugin.
        durable: whether the run outlives this process.
        earlier: the run as the store had it before; None where it is new.
        earlier_status: how it stood then.
    """

    def __init__(self, flow: Workflow[Any], target: str, run_id: str | None, *, patient: bool) -> None:
        self.flow = flow
        self.recorder = Recorder(tell=_tell)
        self.durable = False
        self.earlier: RunRecord | None = None
        self.earlier_status: RunStatus | None = None
        self._target = target
        self._run_id = run_id
        self._patient = patient
        self._lease = ""

    def drive(self, make_kernel: Callable[[], Kernel], work: Work) -> RunResult | Failure:
        """Do `work` on a new kernel, and tell how the run ended.

        Args:
            make_kernel: makes the kernel.
            work: begins the run, and waits for its end. When it is cancelled, what is not durable is to end with it.

        Raises:
            CliError: the definition or the configuration is wrong, or there is no such run.
        """
        try:
            return asyncio.run(self._drive(make_kernel(), work))
        except KeyboardInterrupt as error:
            return self._stopped(error)
        except CliError:
            raise
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            if self.recorder.run is None and isinstance(error, WRONG_QUESTIONS):
                raise refused(error) from error
            return self._failed(error)

    async def _drive(self, kernel: Kernel, work: Work) -> RunResult:
        asyncio.get_running_loop().set_exception_handler(report_unhandled)
        async with kernel:
            if kernel.backend is not None and kernel.backend.capabilities.durable:
                self.durable, self.recorder.advice = True, "Ctrl-C leaves it waiting"
                if self._run_id:
                    await self._look(kernel, self._run_id)
            try:
                return await work(kernel)
            except asyncio.CancelledError:
                if self.durable:
                    await kernel.close(grace=0)  # the run stands at its last commit, free for anybody
                raise

    async def _look(self, kernel: Kernel, run_id: str) -> None:
        """See how the run stands, and tell why it may not begin at once."""
        assert kernel.backend is not None
        self.earlier = record = await kernel.backend.load(run_id)
        if record is None:
            return
        now = kernel.clock.time()
        self._lease = f"in {max(0.0, (record.expires or now) - now):.1f} s"
        self.earlier_status = status_of(record, now)
        if self.earlier_status is RunStatus.PARKED:
            _tell(f"Parked: run {run_id} waits{waits_for(record.wait)}; {self.recorder.advice}")
        elif self.earlier_status is RunStatus.RUNNING and self._patient:
            _tell(f"Waiting: run {run_id} is driven by {holder_of(record, now)}; when nobody does it goes on here")

    def _failed(self, error: BaseException) -> Failure:
        failure = failure_of(error, self.flow, self.recorder.run)
        if not self.durable or failure.status is RunStatus.CANCELLED:
            return failure
        hint = f"cano resume {self._target} {failure.run_id} lets it go on from that state"
        if self.recorder.run is not None:
            return replace(failure, hint=hint)
        if isinstance(error, ConflictError) and self.earlier is not None:
            return replace(failure, hint=f"if that process is dead, try again when its lease is over, {self._lease}")
        if self.earlier is None or not isinstance(error, WorkflowError) or isinstance(error, VersionMismatchError):
            return failure
        before = "it had failed before; " if self.earlier_status is RunStatus.FAILED else ""
        return replace(failure, hint=before + hint)

    def _stopped(self, error: KeyboardInterrupt) -> Failure:
        run, before = self.recorder.run, self.earlier
        if run is None and before is not None and self.earlier_status is not None:
            return Failure(
                error,
                "the run is left as it is",
                run_id=before.run_id,
                workflow=before.workflow,
                state=before.state,
                status=self.earlier_status,
                stopped=True,
            )
        if run is None:
            status = RunStatus.CANCELLED
            return Failure(error, "stopped before the run began", workflow=self.flow.name, status=status, stopped=True)
        message, status = "the run was stopped", RunStatus.CANCELLED
        state: str = state_name(run.state)
        attempt: int | None = run.step.attempt
        hint = None
        if run.status in (RunStatus.SUCCEEDED, RunStatus.FAILED):
            message, status = f"stopped when the run had {run.status.value} already", run.status
        elif self.durable and run.status is RunStatus.PARKED:
            message, status = "the run is left waiting", run.status
            state, attempt = run.wait.then if run.wait is not None else state, None
        elif self.durable and run.status is RunStatus.INTERRUPTED:
            message, status = "the run was stopped, and stands at its last commit", run.status
            hint = f"cano resume {self._target} {run.run_id} lets it go on"
        return Failure(
            error,
            message,
            run_id=run.run_id,
            workflow=run.workflow,
            state=state,
            attempt=attempt,
            status=status,
            stopped=True,
            hint=hint,
        )


def drive(
    ctx: click.Context, driver: Driver, work: Work, *, store: str | None, lease: float, progress: bool
) -> RunResult | Failure:
    """Do `work` on a kernel of the command's, with a live view of the states where `progress` is wanted."""
    settings: Settings = ctx.obj
    options = {} if store is None else {"store": store}
    with live_view(lambda: states(driver.recorder), wanted=progress) as view:
        ended = driver.drive(lambda: settings.kernel(plugins=[driver.recorder], lease=lease, **options), work)
        view.keep(isinstance(ended, Failure))
    return ended


@contextlib.contextmanager
def stdout_kept(wanted: bool) -> Iterator[TextIO]:
    """Let what the user's code prints go to stderr, so that stdout, which this hands out, has but the answer."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield stdout


def report_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio does itself, except for what ends the whole event loop: that is told as the run's failure."""
    if not isinstance(context.get("exception"), SystemExit | KeyboardInterrupt):
        loop.default_exception_handler(context)


def _tell(message: str) -> None:
    click.echo(message, err=True)
