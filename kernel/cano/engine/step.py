"""`Step`: the current step, for tasks and observers."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from contextvars import Context, ContextVar
from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any, NamedTuple

from cano.checks import text
from cano.errors import ConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from cano.engine.binding import BoundState
    from cano.engine.run import Run
    from cano.engine.run_view import Progress
    from cano.engine.step_attributes import StepAttributes
    from cano.transactions import Transaction

# set once per run or branch, to an object that is updated as the run proceeds
running: ContextVar[Step | None] = ContextVar("cano_step")


class StepWait(NamedTuple):
    """The wait that the current step begins if its task returns `wait_for(…)`.

    Attributes:
        token: the token of the wait, which is the same in every attempt and process: `kernel.signal(…, wait=token)`
            answers this wait and no other. It can be guessed.
    """

    token: str


NO_ATTRIBUTES: Mapping[str, tuple[bool, Any]] = {}


class Detail:
    """The rarely used attributes of a step. Allocated on first use, dropped when the step ends."""

    __slots__ = (
        "attempt", "attributes", "began", "children", "deadline", "delay", "error", "following", "kept_attributes",
        "outcome", "payload", "phase", "progress", "token_known",
    )  # fmt: skip

    def __init__(
        self,
        error: BaseException | None = None,
        payload: Any = None,
        outcome: Any = None,
        attempt: int = 1,
        began: float | None = None,
        deadline: float | None = None,
    ) -> None:
        self.attempt = attempt
        self.began = began  # when the step began, in monotonic seconds, if it is known: to a later process, say
        self.phase: str | None = None
        self.children: Mapping[str, int] = {}  # how many child runs the finished phases have started, by workflow
        self.error = error
        self.delay: float | None = None
        self.deadline = deadline
        self.progress: Progress | None = None
        self.payload = payload
        self.outcome = outcome
        self.token_known = False
        self.attributes = NO_ATTRIBUTES  # what this attempt has changed: whether it has set them, and the values
        self.kept_attributes = NO_ATTRIBUTES  # those of the phases that are done
        self.following: Detail | None = None  # what the next step starts with


NO_DETAIL = Detail()


class Step:
    """The current step of a run, or of one branch of a split. Only the engine writes to it.

    Observers get one object for all steps of a run, which is updated in place: keep its values rather than the object.

    `current_step()` returns an object of the attempt that calls it, which keeps its identity (`state`, `seq`,
    `attempt`, `idempotency_key`) after the attempt. It is made at the first call in an attempt. A thread gets it at its
    start. But an asyncio task that a step leaves behind, and that first calls `current_step()` later, gets the run's
    step of that time: call it before you start such a task.
    """

    __slots__ = ("_bound", "_branch", "_detail", "_last", "_left", "_next", "_own", "_run")

    def __init__(self, run: Run, bound: BoundState, branch: str | None = None, seq: int = 0) -> None:
        self._run = run
        self._bound = bound
        self._branch = branch
        self._last = seq
        self._left: Iterable[None] = ()
        self._next: BoundState | None = None
        self._detail: Detail | None = None
        self._own: _AttemptStep | None = None

    def _ensure_detail(self) -> Detail:
        """Return the step's detail, for writing. Allocate it if there is none."""
        if self._detail is None:
            self._detail = Detail()
        return self._detail

    @property
    def _detail_or_default(self) -> Detail:
        """The step's detail, for reading."""
        return NO_DETAIL if self._detail is None else self._detail

    # for the engine and the plugins that extend it

    def counted(self, steps: int) -> Iterable[None]:
        """Return an iterator over the next `steps` steps. It counts for the loop: `seq` asks it how many are left."""
        self._last, self._left = self._last + steps - length_hint(self._left), repeat(None, steps)
        return self._left

    def count(self, steps: int) -> None:
        """Add `steps`, which may be negative, to the number of the step."""
        self._last, self._left = self._last + steps - length_hint(self._left), ()

    def hand_on(self, error: BaseException | None = None, payload: Any = None, outcome: Any = None) -> None:
        """Set `error`, `payload` and `outcome` of the next step. For the engine."""
        self._ensure_detail().following = Detail(error, payload, outcome)

    def fail(self, error: BaseException) -> None:
        """Set the `error` that observers get. For the engine."""
        self._ensure_detail().error = error

    def of_attempt(self) -> _AttemptStep:
        """Return this step as its present attempt sees it, with an identity that does not change. For the engine."""
        own = self._own
        if own is None or own._last != self.seq or own._attempt != self.attempt:
            own = self._own = _AttemptStep(self)
        return own

    def child_id(self, workflow: str) -> str:
        """Return the id of the next child run of `workflow` that this attempt starts. For the engine.

        Every attempt counts the same way, also after a crash, so that each child gets its own id again.
        """
        children = self.of_attempt()._children
        number = children[workflow] = children.get(workflow, 0) + 1
        return f"{self.idempotency_key}{'' if number == 1 else f'.{number}'}/{workflow}"

    @property
    def token_known(self) -> bool:
        """Whether the step has asked for its wait's token, so that signals may be sent to the wait. For plugins."""
        return self._detail_or_default.token_known

    def began(self, now: float) -> float:
        """Return when the step began, in monotonic seconds; it is `now` if that is not known yet. For the engine."""
        detail = self._ensure_detail()
        if detail.began is None:
            detail.began = now
        return detail.began

    def keep_count(self) -> None:
        """Let the following phases, in any attempt, count child runs from here, and keep attributes. For the engine."""
        if self._own is not None:
            detail = self._ensure_detail()
            detail.children, detail.kept_attributes = dict(self.of_attempt()._children), detail.attributes

    def restore(self, bound: BoundState, seq: int, detail: Detail) -> None:
        """Continue after transition `seq`, in a state that starts with `detail`. For the engine."""
        self._bound, self._last, self._left = bound, seq, ()
        self._ensure_detail().following = detail

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
        """The state whose task is executing."""
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
        """The number of the step in its run, counted from 1."""
        return self._last - length_hint(self._left)

    @property
    def attempt(self) -> int:
        """The current attempt, counted from 1."""
        return self._detail_or_default.attempt

    @property
    def phase(self) -> str | None:
        """The phase of a node: "prep", "exec" or "post"; None for other tasks."""
        return self._detail_or_default.phase

    @property
    def idempotency_key(self) -> str:
        """A key that is the same in every attempt of this step, even after a resume or in another process.

        Pass it to external services, so that a repeated call takes effect only once.
        """
        key = f"{self._run.run_id}:{self.seq}"
        return key if self._branch is None else f"{key}:{self._branch}"

    @property
    def deadline(self) -> float | None:
        """The deadline of the attempt, in seconds of the kernel's monotonic clock; None without a timeout."""
        deadline = self._detail_or_default.deadline
        return self._run.deadline if deadline is None else deadline

    @property
    def error(self) -> BaseException | None:
        """The last exception of this step, for observers; or the error whose `on_exhausted` led to this state."""
        return self._detail_or_default.error

    @property
    def delay(self) -> float | None:
        """The seconds until the next attempt, while the step waits for it; otherwise None."""
        return self._detail_or_default.delay

    @property
    def next_state(self) -> Any:
        """The state that the task returned; None before it has returned."""
        return None if self._next is None else self._next.state

    @property
    def payload(self) -> Any:
        """The payload of the signal that led to this state; otherwise None."""
        return self._detail_or_default.payload

    @property
    def outcome(self) -> Any:
        """The `SplitOutcome` of the split that led to this state; otherwise None."""
        return self._detail_or_default.outcome

    @property
    def attributes(self) -> StepAttributes:
        """Sets search attributes of the run: `current_step().attributes["tenant"] = "acme"`.

        It takes effect with the step's commit. An attribute that was set no longer follows the key of its name; `del`
        lets it follow the key again.
        """
        from cano.engine.step_attributes import StepAttributes  # late: few workflows have attributes

        return StepAttributes(self)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report the step's progress, which `RunHandle.status()` returns. The arguments are those of `Progress`.

        Other processes see it soon, if a store keeps the run, but not that of a branch of a split.
        """
        from cano.engine.run_view import Progress  # late: few tasks report

        detail = self._ensure_detail()
        if self.attempt == detail.attempt:  # otherwise an earlier attempt, which was abandoned, reports
            detail.progress = Progress(done, total, message)
            if self._branch is None and (report := getattr(self._run.journal, "report_progress", None)) is not None:
                report(self._run)

    def emit(self, channel: str, item: Any, *, flush: bool = False) -> Awaitable[None]:
        """Add an item to one of the run's streams, which `RunHandle.stream` reads, in any process.

        The item is stored with the step's commit; or with `flush`, as soon as the store can write it, together with
        all that the run has emitted before. If the attempt fails, readers get a mark that its items are superseded,
        and items that are not stored yet are dropped. Of an earlier attempt, which was abandoned, nothing is stored.

        In a coroutine, await the result if many items are flushed. That takes time only while 1,000, or half of the
        bytes that may, wait; in a worker thread, this call does. Without a store, `flush` has no effect.

        Args:
            channel: the channel's name.
            item: any value that the store's codec can encode.
            flush: whether to store it before the step ends.

        Raises:
            ConfigurationError: the store keeps no streams.
            SerializationError: the item cannot be stored.
            SizeLimitError: too many bytes wait to be stored.
        """
        run, detail = self._run, self._ensure_detail()
        if self.attempt != detail.attempt or self.seq != run.step.seq:
            from cano.streams import NOTHING  # late: few tasks emit

            return NOTHING
        emitter = run.emitter or run.kernel.required_keeper("to emit items").emitter(run)
        return emitter.emit(self, text("channel", channel), item, flush)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction on the store's database, which is committed with the step: see `cano.Transaction`.

        Raises:
            ConfigurationError: the store or the step can have none, or the step has one already.
        """
        return self._run.kernel.required_keeper("a transaction").transaction(self)

    @property
    def last_progress(self) -> Progress | None:
        """The last report of `progress` in this step, or None."""
        return self._detail_or_default.progress

    def __repr__(self) -> str:
        return f"<Step {self.seq} of run {self.run_id}: {self.workflow} in {self.state}, attempt {self.attempt}>"


class _AttemptStep(Step):
    """A step as one attempt sees it. It is a class of its own, so that a run's step needs no memory for it."""

    __slots__ = ("_attempt", "_children")

    def __init__(self, step: Step) -> None:
        Step.__init__(self, step._run, step._bound, step._branch, step.seq)
        self._detail: Detail = step._ensure_detail()
        self._attempt = step.attempt
        self._children = dict(self._detail.children)

    def of_attempt(self) -> _AttemptStep:
        """Return this step itself."""
        return self

    @property
    def attempt(self) -> int:
        """The attempt, counted from 1."""
        return self._attempt


def keep_step(context: Context) -> None:
    """Let `context`, which may outlive its attempt, keep the identity of the present step."""
    if (step := context.get(running)) is not None:
        context.run(running.set, step.of_attempt())


def location_of(step: Step) -> dict[str, Any]:
    """Return run, workflow, state and attempt of a step, as arguments of a `WorkflowError`."""
    return {"run_id": step.run_id, "workflow": step.workflow, "state": step.state, "attempt": step.attempt}


def current_run() -> Run | None:
    """Return the run whose step is executing in this context, or None."""
    step = running.get(None)
    return None if step is None else step.run


def current_place() -> str:
    """Return the state and the run whose step is executing in this context, for messages."""
    step = current_step()
    return f"state {step.state} of run {step.run_id}"


def current_wait() -> StepWait:
    """Return the wait that the current step begins if its task returns `wait_for(…)`: for its `token`.

    Raises:
        ConfigurationError: no step is executing in this context, or the step is a branch of a split, which cannot wait.
    """
    step = current_step()
    if step.branch is not None:
        message = f"current_wait() was called in branch {step.branch} of a split, which cannot wait"
        raise ConfigurationError(message, run_id=step.run_id, state=step.state)
    from cano.records import wait_token  # late: few tasks ask for it

    step._ensure_detail().token_known = True
    return StepWait(wait_token(step.run_id, step.seq))


def current_step() -> Step:
    """Return the step that is executing: in a task, in the coroutines that it awaits, and in its worker thread.

    The object keeps its identity when the run continues; see `Step`.

    Raises:
        ConfigurationError: no step is executing in this context.
    """
    if (step := running.get(None)) is None:
        raise ConfigurationError("current_step() was called outside a step; call it in a task")
    return step.of_attempt()
