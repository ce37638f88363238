"""Executing one run to its end for `cano run` and `cano resume`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TextIO

import click
from cano import (
    CanoError,
    ConflictError,
    Kernel,
    RunRecord,
    RunResult,
    RunStatus,
    Standstill,
    VersionMismatchError,
    Workflow,
    WorkflowError,
    state_name,
)

from cano_cli.errors import CliError, usage_error
from cano_cli.failure import Failure, failure_of
from cano_cli.hints import word
from cano_cli.progress import live_view, state_table
from cano_cli.reasons import reason_of
from cano_cli.recorder import Recorder
from cano_cli.records import holder_of, status_of, waits_for
from cano_cli.safe_lines import line
from cano_cli.settings import Settings
from cano_cli.stores import USAGE_ERRORS

Work = Callable[[Kernel], Awaitable[RunResult]]


class Execution:
    """The execution of one run to its end, in its own event loop.

    Args:
        flow: the workflow.
        command: returns the line of another command, for hints.
        target: the workflow, as the user named it.
        run_id: the run's id, if the user gave one.
        waits_for_holder: whether `work` waits for a run that another process holds.

    Attributes:
        recorder: records what the run's states do in this process; the kernel needs it as a plugin.
        durable: whether the run outlives this process.
        earlier: the run as it was stored before; None if it is new.
        earlier_status: its status at that time.
    """

    def __init__(
        self,
        flow: Workflow[Any],
        command: Callable[..., str],
        target: str,
        run_id: str | None,
        *,
        waits_for_holder: bool,
    ) -> None:
        self.flow = flow
        self.recorder = Recorder(report=_print_message)
        self.durable = False
        self.earlier: RunRecord | None = None
        self.earlier_status: RunStatus | None = None
        self._command = command
        self._target = target
        self._useless: str | None = None  # why it is useless to resume the run, and what else to do
        self._run_id = run_id
        self._waits_for_holder = waits_for_holder
        self._lease_left = 0.0

    def execute(self, make_kernel: Callable[[], Kernel], work: Work) -> RunResult | Failure:
        """Do `work` on a new kernel. Return the run's result, or why it has none.

        Args:
            make_kernel: creates the kernel.
            work: starts the run and waits for its end. If it is cancelled, it cancels a run that is not durable.

        Raises:
            CliError: the definition or the configuration is invalid, or there is no such run.
        """
        try:
            return asyncio.run(self._execute(make_kernel(), work))
        except KeyboardInterrupt as error:
            return self._stopped(error)
        except CliError:
            raise
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            if self.recorder.run is None and isinstance(error, USAGE_ERRORS):
                raise usage_error(error) from error
            return self._failed(error)

    async def _execute(self, kernel: Kernel, work: Work) -> RunResult:
        asyncio.get_running_loop().set_exception_handler(report_unhandled)
        async with kernel:
            if kernel.backend is not None and kernel.backend.capabilities.durable:
                self.durable, self.recorder.ctrl_c_effect = True, "Ctrl-C leaves it parked"
                if self._run_id:
                    await self._load_earlier(kernel, self._run_id)
            try:
                return await work(kernel)
            except asyncio.CancelledError:
                if self.durable:
                    await kernel.close(grace=0)  # releases the run at its last commit
                raise
            except WorkflowError as error:
                if self.durable and error.run_id is not None:
                    with contextlib.suppress(CanoError):  # without a reason, the hint is that of any failure
                        reason = await reason_of(kernel, error.run_id, self._command, (self._target,))
                        if reason.explanation.reason is Standstill.CHILD_CANCELLED:
                            self._useless = reason.text
                raise

    async def _load_earlier(self, kernel: Kernel, run_id: str) -> None:
        """Load the stored run and print why it cannot continue at once."""
        assert kernel.backend is not None
        self.earlier = record = await kernel.backend.load(run_id)
        if record is None:
            return
        now = kernel.clock.time()
        self._lease_left = max(0.0, (record.expires or now) - now)
        self.earlier_status = status_of(record, now)
        if self.earlier_status is RunStatus.PARKED:
            _print_message(f"Parked: run {word(run_id)} waits{waits_for(record.wait)}; {self.recorder.ctrl_c_effect}")
        elif self.earlier_status is RunStatus.RUNNING and self._waits_for_holder:
            holder = holder_of(record, now)
            _print_message(
                f"Waiting: run {word(run_id)} is held by {holder}; this process takes over if that one stops"
            )

    def _failed(self, error: BaseException) -> Failure:
        failure = failure_of(error, self.flow, self.recorder.run)
        if self.earlier is not None and self.earlier_status is RunStatus.CANCELLED:
            fork = self._command("fork", self.earlier.run_id, str(self.earlier.seq), "NEW")
            return replace(failure, hint=f"to continue it in a fork: {fork}; then: {self._resume('NEW')}")
        if not self.durable or failure.status is RunStatus.CANCELLED:
            return failure
        if self._useless is not None:
            return replace(failure, hint=self._useless)
        hint = None if failure.run_id is None else f"to retry from that state: {self._resume(failure.run_id)}"
        if self.recorder.run is not None:
            return replace(failure, hint=hint)
        if isinstance(error, ConflictError) and self.earlier is not None:
            left = f"in {self._lease_left:.1f} s"
            return replace(failure, hint=f"if that process is dead, try again after its lease expires, {left}")
        if self.earlier is None or not isinstance(error, WorkflowError) or isinstance(error, VersionMismatchError):
            return failure
        if hint is not None and self.earlier_status is RunStatus.FAILED:
            hint = f"the run had failed before; {hint}"
        return replace(failure, hint=hint)

    def _resume(self, run_id: str) -> str:
        return self._command("resume", self._target, run_id)

    def _stopped(self, error: KeyboardInterrupt) -> Failure:
        run, before = self.recorder.run, self.earlier
        if run is None and before is not None and self.earlier_status is not None:
            return Failure(
                error,
                "the command was stopped; the run is unchanged",
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
            message, status = f"stopped after the run had {run.status.value}", run.status
        elif self.durable and run.status is RunStatus.PARKED:
            message, status = "the command was stopped; the run stays parked", run.status
            state, attempt = run.wait.then if run.wait is not None else state, None
        elif self.durable and run.status is RunStatus.INTERRUPTED:
            message, status = "the run was stopped and can be resumed from its last commit", run.status
            hint = f"to resume it: {self._resume(run.run_id)}"
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


def execute(
    ctx: click.Context, execution: Execution, work: Work, *, store: str | None, lease: float, progress: bool
) -> RunResult | Failure:
    """Execute a run on a kernel with the command's settings; show its states live if `progress` is set."""
    settings: Settings = ctx.obj
    options: dict[str, Any] = {"quiet": True, "plugins": [execution.recorder], "lease": lease}
    if store is not None:
        options["store"] = store
    with live_view(lambda: state_table(execution.recorder), wanted=progress) as view:
        view.keep_on_screen(False)  # a usage error has no states to show
        outcome = execution.execute(lambda: settings.kernel(**options), work)
        view.keep_on_screen(isinstance(outcome, Failure))
    return outcome


@contextlib.contextmanager
def stdout_reserved(wanted: bool) -> Iterator[TextIO]:
    """Yield stdout. If `wanted`, redirect what the user's code prints to stderr meanwhile."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield stdout


def report_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Call asyncio's default handler, except for exceptions that stop the loop: the command reports those."""
    if not isinstance(context.get("exception"), SystemExit | KeyboardInterrupt):
        loop.default_exception_handler(context)


def _print_message(message: str) -> None:
    click.echo(line(message), err=True)
