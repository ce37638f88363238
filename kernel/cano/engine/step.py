"""The running step, as tasks and observers see it."""

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
    """How far a step says it is."""

    done: float
    total: float | None
    message: str | None


class Detail:
    """What most steps have nothing of. It lasts for one step."""

    __slots__ = ("attempt", "deadline", "delay", "error", "following", "outcome", "payload", "phase", "progress")

    def __init__(self, error: BaseException | None = None, payload: Any = None, outcome: Any = None) -> None:
        self.attempt = 1
        self.phase: str | None = None
        self.error = error
        self.delay: float | None = None
        self.deadline: float | None = None
        self.progress: Progress | None = None
        self.payload = payload
        self.outcome = outcome
        self.following: Detail | None = None
        """What the next step starts with: what led to it."""


NO_DETAIL = Detail()


class Step:
    """The step that a run (or one branch of a split) is in. Read it; the engine alone writes it.

    One object serves all steps of a run, updated in place: keep its values rather than the object.
    """

    __slots__ = ("_bound", "_branch", "_detail", "_next", "_run", "_seq")

    def __init__(self, run: Run, bound: BoundState, branch: str | None = None) -> None:
        self._run = run
        self._bound = bound
        self._branch = branch
        self._seq = 0
        self._next: BoundState | None = None
        self._detail: Detail | None = None

    def _own(self) -> Detail:
        """The step's details, to be written."""
        if self._detail is None:
            self._detail = Detail()
        return self._detail

    @property
    def _known(self) -> Detail:
        """The step's details, to be read."""
        return NO_DETAIL if self._detail is None else self._detail

    def _hand_on(self, error: BaseException | None = None, payload: Any = None, outcome: Any = None) -> None:
        """Let the next step see what led to it."""
        self._own().following = Detail(error, payload, outcome)

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
        """Which branch of a split this is, or None."""
        return self._branch

    @property
    def seq(self) -> int:
        """Number of the step in its run, counted from 1."""
        return self._seq

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self._known.attempt

    @property
    def phase(self) -> str | None:
        """The phase of a node: "prep", "exec" or "post"; None for other tasks."""
        return self._known.phase

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this step, also after a resume and in another process.

        Give it to outside services, so that what is done at least once has its effect exactly once.
        """
        key = f"{self._run.run_id}:{self._seq}"
        return key if self._branch is None else f"{key}:{self._branch}"

    @property
    def deadline(self) -> float | None:
        """When the attempt will be stopped, in seconds of the kernel's monotonic clock; None is never."""
        deadline = self._known.deadline
        return self._run.deadline if deadline is None else deadline

    @property
    def error(self) -> BaseException | None:
        """What failed last: for observers the failure at hand, for a state reached by `on_exhausted` its cause."""
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
        """What the signal carried that this state was waiting for; None otherwise."""
        return self._known.payload

    @property
    def outcome(self) -> Any:
        """The `SplitOutcome` of the split that led to this state; None otherwise."""
        return self._known.outcome

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the work is; `RunHandle.status()` shows it."""
        self._own().progress = Progress(done, total, message)

    @property
    def last_progress(self) -> Progress | None:
        """What `progress` was told last in this step."""
        return self._known.progress

    def __repr__(self) -> str:
        return f"<Step {self.seq} of run {self.run_id}: {self.workflow} in {self.state}, attempt {self.attempt}>"


def current_step() -> Step:
    """The step that is running here: in a task, in what it awaits, and in threads that the kernel started for it.

    Raises:
        ConfigurationError: no step is running here.
    """
    try:
        return running.get()
    except LookupError:
        raise ConfigurationError("current_step() was called outside a running step") from None
