"""The observer that measures. Its labels are names out of the program, never ids of runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from cano import Kernel, Run, Step, hookimpl, state_name
from opentelemetry.metrics import MeterProvider

from cano_otel import names
from cano_otel.failures import error_type, result_of

if TYPE_CHECKING:
    from cano.engine.ports import Host

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class _OpenRun:
    """A run that is under way, and the labels of its states, made once: by the identity of the state."""

    __slots__ = ("at", "labels", "monotonic", "workflow")

    def __init__(self, run: Run) -> None:
        self.monotonic = run.kernel.clock.monotonic
        self.at = self.monotonic()
        self.workflow = {names.WORKFLOW: run.workflow}
        self.labels: dict[int, _Labels] = {}

    def of(self, state: Any) -> _Labels:
        """The labels of a state."""
        found = self.labels.get(id(state))  # a workflow keeps its states; to hash an Enum's member takes longer
        if found is None:
            found = self.labels[id(state)] = _Labels({**self.workflow, names.STATE: state_name(state)})
        return found


class _Labels:
    """The labels of a state, and of what succeeds in it."""

    __slots__ = ("success", "these")

    def __init__(self, these: dict[str, Any]) -> None:
        self.these = these
        self.success = {**these, names.TASK_RESULT: names.SUCCESS}


class _OpenStep:
    """A step that is under way, or one that is being committed: then `at` is when it ended."""

    __slots__ = ("at", "labels", "run")

    def __init__(self, run: _OpenRun, labels: _Labels) -> None:
        self.run = run
        self.labels = labels
        self.at = run.monotonic()


class Metrics:
    """Measures runs, steps, commits and schedules.

    Args:
        provider: where the measurements go.
    """

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter(names.SCOPE)

        def histogram(name: str, description: str) -> Any:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=SECONDS)

        self._active = meter.create_up_down_counter(names.RUNS_ACTIVE, "{run}", "Runs that are being driven")
        self._started = meter.create_counter(names.RUNS_STARTED, "{run}", "Segments of runs begun")
        self._finished = meter.create_counter(names.RUNS_FINISHED, "{run}", "Runs ended, by result")
        self._parked = meter.create_counter(names.RUNS_PARKED, "{run}", "Times that a run was parked")
        self._run_errors = meter.create_counter(names.RUN_ERRORS, "{error}", "Runs that failed")
        self._run_duration = histogram(names.RUN_DURATION, "Duration of a segment of a run")
        self._step_duration = histogram(names.STEP_DURATION, "Duration of a step, retries and waits included")
        self._attempts = meter.create_counter(names.ATTEMPTS, "{attempt}", "Attempts of steps that have ended")
        self._retries = meter.create_counter(names.RETRIES, "{retry}", "Attempts that failed and were followed by one")
        self._commit = histogram(names.COMMIT_DURATION, "From a task's return to its transition being committed")
        self._lateness = histogram(names.LATENESS, "From a schedule's time to the start of its run")
        self._skipped = meter.create_counter(names.SKIPPED, "{time}", "Times of schedules that passed without a run")
        self._observer_errors = meter.create_counter(names.OBSERVER_ERRORS, "{error}", "Errors of observers")
        self._runs: dict[int, _OpenRun] = {}
        self._steps: dict[int, _OpenStep] = {}
        self._told: Counter[str] = Counter()

    # runs

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Count it."""
        self._runs[id(run)] = open_run = _OpenRun(run)
        self._active.add(1, {**open_run.workflow, names.RUN_STATE: names.EXECUTING})
        self._started.add(1, {**open_run.workflow, names.RESUMED: run.resumed})

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Count it, and what it has taken."""
        self._parked.add(1, {names.WORKFLOW: run.workflow})
        self._end(run)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Count it, and what it has taken."""
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
        self._steps.pop(id(run.step), None)  # of a step that was not committed
        self._count_observer_errors(run.kernel)

    # steps

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Take the time."""
        open_run = self._runs[id(step.run)]
        self._steps[id(step)] = _OpenStep(open_run, open_run.of(step.state))

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """Count it."""
        open_step = self._steps.get(id(step))
        if open_step is not None and step.error is not None:
            self._retries.add(1, {**open_step.labels.these, names.ERROR_TYPE: error_type(step.error)})

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Measure it; a commit follows."""
        self._end_step(step, None)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Measure it; a commit may follow."""
        self._end_step(step, step.error)

    def _end_step(self, step: Step, error: BaseException | None) -> None:
        open_step = self._steps.get(id(step)) if step.branch is None else self._steps.pop(id(step), None)
        if open_step is None:
            return
        now, labels = open_step.run.monotonic(), open_step.labels
        self._attempts.add(step.attempt, labels.these)
        attributes = labels.success
        if error is not None:
            attributes = {**labels.these, names.TASK_RESULT: result_of(error), names.ERROR_TYPE: error_type(error)}
        self._step_duration.record(now - open_step.at, attributes)
        open_step.at = now

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Measure the commit."""
        ended = self._steps.pop(id(step), None)
        if ended is not None:
            self._commit.record(ended.run.monotonic() - ended.at, ended.run.workflow)

    # schedules: these hooks are the scheduler's, where one is installed

    @hookimpl(optionalhook=True)
    def cano_schedule_fired(self, tick: Any) -> None:
        """Measure how late it is."""
        self._late(tick)

    @hookimpl(optionalhook=True)
    def cano_schedule_late(self, tick: Any) -> None:
        """Measure how late it is."""
        self._late(tick)

    @hookimpl(optionalhook=True)
    def cano_schedule_skipped(self, tick: Any) -> None:
        """Count the times."""
        self._skipped.add(tick.times, {names.SCHEDULE: tick.schedule, names.REASON: str(tick.reason)})

    def _late(self, tick: Any) -> None:
        if tick.nominal is not None:
            self._lateness.record(tick.delay, {names.SCHEDULE: tick.schedule, names.OUTCOME: tick.outcome})

    # observers

    @hookimpl(tryfirst=True)
    def cano_kernel_stopping(self, kernel: Kernel) -> None:
        """Count what observers have raised since the last run ended."""
        self._count_observer_errors(kernel)

    def _count_observer_errors(self, kernel: Kernel | Host) -> None:
        for observer, count in kernel.observer_errors.items():
            if count > self._told[observer]:
                self._observer_errors.add(count - self._told[observer], {names.OBSERVER: observer})
                self._told[observer] = count
