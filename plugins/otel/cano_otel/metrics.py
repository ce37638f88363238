"""The observer that measures runs. Its labels are names from the program, never run ids."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from cano import Kernel, LateRun, Run, Step, hookimpl, state_name
from opentelemetry.metrics import MeterProvider

from cano_otel import names
from cano_otel.failures import error_type, result_of

if TYPE_CHECKING:
    from cano.engine.ports import Host

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class _OpenRun:
    """A run that this kernel is executing, with the labels of each state by the state's `id()`."""

    __slots__ = ("at", "labels", "monotonic", "workflow")

    def __init__(self, run: Run) -> None:
        self.monotonic = run.kernel.clock.monotonic
        self.at = self.monotonic()
        self.workflow = {names.WORKFLOW: run.workflow}
        self.labels: dict[int, _Labels] = {}

    def labels_of(self, state: Any) -> _Labels:
        """Return the labels of a state."""
        found = self.labels.get(id(state))  # the workflow keeps its states alive; hashing an Enum member takes longer
        if found is None:
            found = self.labels[id(state)] = _Labels({**self.workflow, names.STATE: state_name(state)})
        return found


class _Labels:
    """The labels of a state: `base`, and `success` for its successful steps."""

    __slots__ = ("base", "success")

    def __init__(self, base: dict[str, Any]) -> None:
        self.base = base
        self.success = {**base, names.TASK_RESULT: names.SUCCESS}


class _OpenStep:
    """A step before its commit. `at` is its start time or, once its task has returned, its end time."""

    __slots__ = ("at", "labels", "run")

    def __init__(self, run: _OpenRun, labels: _Labels) -> None:
        self.run = run
        self.labels = labels
        self.at = run.monotonic()


class Metrics:
    """An observer that measures runs, steps, commits and schedules.

    Args:
        provider: receives the measurements.
    """

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter(names.SCOPE)

        def histogram(name: str, description: str) -> Any:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=SECONDS)

        self._active = meter.create_up_down_counter(names.RUNS_ACTIVE, "{run}", "Runs being executed")
        self._started = meter.create_counter(names.RUNS_STARTED, "{run}", "Segments of runs started")
        self._finished = meter.create_counter(names.RUNS_FINISHED, "{run}", "Finished runs, by result")
        self._parked = meter.create_counter(names.RUNS_PARKED, "{run}", "Times that runs were parked")
        self._runs_late = meter.create_counter(names.RUNS_LATE, "{run}", "Runs and visits of states that were late")
        self._run_errors = meter.create_counter(names.RUN_ERRORS, "{error}", "Runs that failed")
        self._run_duration = histogram(names.RUN_DURATION, "Duration of a segment of a run")
        self._step_duration = histogram(names.STEP_DURATION, "Duration of a step, retries and waits included")
        self._attempts = meter.create_counter(names.ATTEMPTS, "{attempt}", "Attempts of ended steps")
        self._retries = meter.create_counter(names.RETRIES, "{retry}", "Failed attempts that were retried")
        self._commit = histogram(names.COMMIT_DURATION, "From a task's return to the commit of its transition")
        self._lateness = histogram(names.LATENESS, "From a schedule's due time to the start of its run")
        self._skipped = meter.create_counter(names.SKIPPED, "{time}", "Due times of schedules that were skipped")
        self._observer_errors = meter.create_counter(
            names.OBSERVER_ERRORS, "{error}", "Exceptions that observers raised"
        )
        self._runs: dict[int, _OpenRun] = {}
        self._steps: dict[int, _OpenStep] = {}
        self._reported: Counter[str] = Counter()

    # runs

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Count a started segment of a run."""
        self._runs[id(run)] = open_run = _OpenRun(run)
        self._active.add(1, {**open_run.workflow, names.RUN_STATE: names.EXECUTING})
        self._started.add(1, {**open_run.workflow, names.RESUMED: run.resumed})

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Count the parked run and record its segment's duration."""
        self._parked.add(1, {names.WORKFLOW: run.workflow})
        self._end(run)

    @hookimpl
    def cano_run_late(self, late: LateRun) -> None:
        """Count a late run, or a late visit of a state."""
        where = {names.STATE: late.state} if late.step else {}
        self._runs_late.add(1, {names.WORKFLOW: late.workflow, **where})

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Count the run, unless it was interrupted, and record its segment's duration."""
        self._end(run)
        if run.status.finished:
            result = {names.WORKFLOW: run.workflow, names.RESULT: result_of(run.error)}
            self._finished.add(1, result)
        if run.error is not None and run.status.finished:
            self._run_errors.add(1, {names.WORKFLOW: run.workflow, names.ERROR_TYPE: error_type(run.error)})

    def _end(self, run: Run) -> None:
        open_run = self._runs.pop(id(run), None)
        if open_run is not None:
            attributes = {**open_run.workflow, names.RUN_STATE: names.EXECUTING}
            self._active.add(-1, attributes)
            attributes[names.STATUS] = run.status.value
            if run.status.finished:
                attributes[names.RESULT] = result_of(run.error)
            if run.error is not None:
                attributes[names.ERROR_TYPE] = error_type(run.error)
            self._run_duration.record(open_run.monotonic() - open_run.at, attributes)
        self._steps.pop(id(run.step), None)  # the last step, if it was not committed
        self._count_observer_errors(run.kernel)

    # steps

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Remember the step's start time."""
        open_run = self._runs[id(step.run)]
        self._steps[id(step)] = _OpenStep(open_run, open_run.labels_of(step.state))

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """Count a retry."""
        open_step = self._steps.get(id(step))
        if open_step is not None and step.error is not None:
            self._retries.add(1, {**open_step.labels.base, names.ERROR_TYPE: error_type(step.error)})

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Record the step's duration. A commit follows."""
        self._end_step(step, None)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Record the step's duration. A commit may follow."""
        self._end_step(step, step.error)

    def _end_step(self, step: Step, error: BaseException | None) -> None:
        open_step = self._steps.get(id(step)) if step.branch is None else self._steps.pop(id(step), None)
        if open_step is None:
            return
        now, labels = open_step.run.monotonic(), open_step.labels
        self._attempts.add(step.attempt, labels.base)
        attributes = labels.success
        if error is not None:
            attributes = {**labels.base, names.TASK_RESULT: result_of(error), names.ERROR_TYPE: error_type(error)}
        self._step_duration.record(now - open_step.at, attributes)
        open_step.at = now

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Record the commit's duration."""
        ended = self._steps.pop(id(step), None)
        if ended is not None:
            self._commit.record(ended.run.monotonic() - ended.at, ended.run.workflow)

    # schedules: these hooks come from cano-scheduler, if it is installed

    @hookimpl(optionalhook=True)
    def cano_schedule_fired(self, tick: Any) -> None:
        """Record how late the run starts."""
        self._late(tick)

    @hookimpl(optionalhook=True)
    def cano_schedule_late(self, tick: Any) -> None:
        """Record how late the run starts."""
        self._late(tick)

    @hookimpl(optionalhook=True)
    def cano_schedule_skipped(self, tick: Any) -> None:
        """Count the skipped due times."""
        self._skipped.add(tick.times, {names.SCHEDULE: tick.schedule, names.REASON: str(tick.reason)})

    def _late(self, tick: Any) -> None:
        if tick.nominal is not None:
            self._lateness.record(tick.delay, {names.SCHEDULE: tick.schedule, names.OUTCOME: tick.outcome})

    # observers

    @hookimpl(tryfirst=True)
    def cano_kernel_stopping(self, kernel: Kernel) -> None:
        """Count the exceptions that observers have raised since the last run ended."""
        self._count_observer_errors(kernel)

    def _count_observer_errors(self, kernel: Kernel | Host) -> None:
        for observer, count in kernel.observer_errors.items():
            if count > self._reported[observer]:
                self._observer_errors.add(count - self._reported[observer], {names.OBSERVER: observer})
                self._reported[observer] = count
