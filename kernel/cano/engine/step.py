"""The current step, as tasks and observers see it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from cano.errors import ConfigurationError

if TYPE_CHECKING:
    from cano.engine.binding import BoundState
    from cano.engine.run import Run

# one variable, set once per run or branch: the object in it is updated as the run moves on
running: ContextVar[Step] = ContextVar("cano_step")


class Progress(NamedTuple):
    """A step's report of how far its work is."""

    done: float
    total: float | None
    message: str | None


class Detail:
    """The rarely used attributes of a step. Allocated on first use, dropped when the step ends."""

    __slots__ = ("attempt", "deadline", "delay", "error", "following", "outcome", "payload", "phase", "progress")

    def __init__(
        self, error: BaseException | None = None, payload: Any = None, outcome: Any = None, attempt: int = 1
    ) -> None:
        self.attempt = attempt
        self.phase: str | None = None
        self.error = error
        self.delay: float | None = None
        self.deadline: float | None = None
        self.progress: Progress | None = None
        self.payload = payload
        self.outcome = outcome
        self.following: Detail | None = None
        """The details that the next step starts with."""


NO_DETAIL = Detail()


class Step:
    """The current step of a run, or of one branch of a split. Read-only for everyone but the engine.

    One object serves all steps of a run and is updated in place: keep its values rather than the object.
    """

    __slots__ = ("_bound", "_branch", "_detail", "_next", "_run", "_seq")

    def __init__(self, run: Run, bound: BoundState, branch: str | None = None, seq: int = 0) -> None:
        self._run = run
        self._bound = bound
        self._branch = branch
        self._seq = seq
        self._next: BoundState | None = None
        self._detail: Detail | None = None

    def _own(self) -> Detail:
        """The step's details, for writing."""
        if self._detail is None:
            self._detail = Detail()
        return self._detail

    @property
    def _known(self) -> Detail:
        """The step's details, for reading."""
        return NO_DETAIL if self._detail is None else self._detail

    # for the engine and the plugins that extend it

    def hand_on(self, error: BaseException | None = None, payload: Any = None, outcome: Any = None) -> None:
        """Set what the next step finds in `error`, `payload` and `outcome`. For the engine."""
        self._own().following = Detail(error, payload, outcome)

    def fail(self, error: BaseException) -> None:
        """Set what observers find in `error`. For the engine."""
        self._own().error = error

    def restore(self, bound: BoundState, seq: int, detail: Detail) -> None:
        """Continue after transition `seq`, in a state that starts with `detail`. For the engine."""
        self._bound, self._seq = bound, seq
        self._own().following = detail

    # for tasks and observers

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._run.plan.name

    @property
    def version(self) -> str:
        """The workflow's version."""
        return self._run.plan.version

    @property
    def state(self) -> Any:
        """The state whose task is running."""
        return self._bound.state

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._bound.task_name

    @property
    def branch(self) -> str | None:
        """The branch of a split that this step belongs to, or None."""
        return self._branch

    @property
    def seq(self) -> int:
        """Number of the step in its run, counted from 1."""
        return self._seq

    @property
    def attempt(self) -> int:
        """The current attempt, counted from 1."""
        return self._known.attempt

    @property
    def phase(self) -> str | None:
        """The phase of a node: "prep", "exec" or "post"; None for other tasks."""
        return self._known.phase

    @property
    def idempotency_key(self) -> str:
        """A key that is the same for every attempt of this step, also after a resume and in another process.

        Pass it to outside services, so that a call made more than once has its effect once.
        """
        key = f"{self._run.run_id}:{self._seq}"
        return key if self._branch is None else f"{key}:{self._branch}"

    @property
    def deadline(self) -> float | None:
        """When the attempt is stopped, in seconds of the kernel's monotonic clock; None is never."""
        deadline = self._known.deadline
        return self._run.deadline if deadline is None else deadline

    @property
    def error(self) -> BaseException | None:
        """For observers the last failure of this step; for a state reached by `on_exhausted` what led to it."""
        return self._known.error

    @property
    def delay(self) -> float | None:
        """Seconds until the next attempt, while the step is waiting for one."""
        return self._known.delay

    @property
    def next_state(self) -> Any:
        """The state that the task returned, once it has."""
        return None if self._next is None else self._next.state

    @property
    def payload(self) -> Any:
        """The payload of the signal that led to this state; None otherwise."""
        return self._known.payload

    @property
    def outcome(self) -> Any:
        """The `SplitOutcome` of the split that led to this state; None otherwise."""
        return self._known.outcome

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the work is. `RunHandle.status()` shows it."""
        self._own().progress = Progress(done, total, message)

    @property
    def last_progress(self) -> Progress | None:
        """The last report of `progress` in this step."""
        return self._known.progress

    def __repr__(self) -> str:
        return f"<Step {self.seq} of run {self.run_id}: {self.workflow} in {self.state}, attempt {self.attempt}>"


def location_of(step: Step) -> dict[str, Any]:
    """Where a step is, as the arguments of a `WorkflowError`."""
    return {"run_id": step.run_id, "workflow": step.workflow, "state": step.state, "attempt": step.attempt}


def current_step() -> Step:
    """The step that is running here: in a task, in coroutines it awaits, and in threads the kernel started for it.

    Raises:
        ConfigurationError: no step is running here.
    """
    try:
        return running.get()
    except LookupError:
        raise ConfigurationError("current_step() was called outside a running step") from None
