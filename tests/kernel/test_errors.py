"""The tree of errors: its shape, what each one knows, and that it survives a journey to another process."""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle
import re
from enum import Enum
from typing import Any

import cano
import pytest
from cano import (
    CanoError,
    CodeVersionError,
    ConfigurationError,
    ConflictError,
    ExecutorError,
    ExecutorUnavailableError,
    FilterError,
    HistoryDiscardedError,
    InputsChangedError,
    JoinError,
    KeyNotFoundError,
    MergeConflictError,
    NodeError,
    PermanentStoreError,
    PluginError,
    RemoteError,
    RetryExhaustedError,
    RunCancelledError,
    RunExistsError,
    RunFileError,
    RunInterruptedError,
    RunNotFoundError,
    RunTimeoutError,
    SchedulerError,
    SerializationError,
    SizeLimitError,
    StepKilledError,
    StepTimeoutError,
    StoreError,
    StoreUnavailableError,
    TaskError,
    TransientStoreError,
    TransitionError,
    TypeMismatchError,
    ValidationError,
    VersionMismatchError,
    WorkerLostError,
    WorkflowError,
)
from cano import errors as module


class State(Enum):
    """A state."""

    WORK = "work"


PLACE: dict[str, Any] = {"run_id": "r1", "workflow": "orders", "state": State.WORK, "attempt": 2}

EXAMPLES: list[CanoError] = [
    CanoError("message"),
    ConfigurationError("message", run_id="r1", state="ask", key="name"),
    RunExistsError("message", run_id="r1", workflow="orders"),
    InputsChangedError("message", run_id="r1", first=501, last=1000),
    RunFileError("message", problem="truncated", offset=5),
    FilterError("message", text="state", position=5),
    HistoryDiscardedError("message", run_id="r1", first=7),
    SizeLimitError("message", limit="ids", most=512, size=600, run_id="one"),
    ValidationError("orders", ["first problem", "second problem"]),
    PluginError("message", plugin="retry", distribution="cano-retry 1.0"),
    SchedulerError("message"),
    ExecutorError("message"),
    WorkerLostError("message", losses=3),
    ExecutorUnavailableError("message"),
    CodeVersionError("message", name="flows:count"),
    RemoteError("message", error_type="flows:Odd"),
    WorkflowError("message", **PLACE),
    TransitionError("message", returned="nowhere", allowed=["end", "start"], **PLACE),
    TaskError("message", **PLACE),
    NodeError("message", phase="exec", **PLACE),
    RetryExhaustedError("message", attempts=4, phase="post", **PLACE),
    StepKilledError("message", kills=3, **PLACE),
    StepTimeoutError("message", timeout=5.0, total=True, abandoned=True, **PLACE),
    RunTimeoutError("message", timeout=5.0, **PLACE),
    JoinError("message", outcome=("a", "b"), **PLACE),
    RunCancelledError("message", **PLACE),
    RunInterruptedError("message", **PLACE),
    VersionMismatchError("message", differences=["state added"], **PLACE),
    StoreError("message", key="count", run_id="r1"),
    PermanentStoreError("message", key="count", run_id="r1"),
    TransientStoreError("message", run_id="r1"),
    KeyNotFoundError("message", key="count", expected=int),
    TypeMismatchError("message", key="count", expected=int, actual=str),
    SerializationError("message", key="count", actual=str),
    MergeConflictError("message", key="count", values={"0:a": 1, "1:b": 2}),
    ConflictError("message", key=None, run_id="r1"),
    RunNotFoundError("message", run_id="r1"),
    StoreUnavailableError("message"),
]


def documented() -> dict[str, tuple[str | None, str | None]]:
    """The tree in the module's docstring: each error's parent, and the builtin that it also is."""
    assert module.__doc__ is not None
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in module.__doc__.splitlines():
        found = re.match(r"^( {4}[│├└─ ]*)(\w+Error)(?: \((\w+)\))?", line)
        if found:
            depth = (len(found[1]) - 4) // 4
            path[depth:] = [found[2]]
            tree[found[2]] = (path[-2] if depth else None, found[3])
    return tree


def public() -> dict[str, type[BaseException]]:
    """Every exception class that `cano` exports."""
    return {
        name: value
        for name, value in vars(cano).items()
        if name in cano.__all__ and inspect.isclass(value) and issubclass(value, BaseException)
        and not issubclass(value, Warning)
    }  # fmt: skip


def test_the_tree_is_as_documented() -> None:
    """Parents and builtin bases of every error are those that the docstring draws, and none is missing there."""
    tree = documented()

    assert set(tree) == set(public())
    for name, (parent, also) in tree.items():
        kind = public()[name]
        bases = {base.__name__ for base in kind.__mro__}
        if parent is None:
            assert kind.__base__ is Exception
        else:
            assert parent in bases
            # nothing public in between
            assert kind.__mro__[1].__name__ == parent or kind.__mro__[2].__name__ == parent
        if also is not None:
            assert issubclass(kind, getattr(builtins, also))


def test_every_error_is_a_cano_error() -> None:
    """One `except CanoError` catches all of them, and no `BaseException` is among them."""
    assert len(public()) >= 24
    assert all(issubclass(kind, CanoError) for kind in public().values())


def test_every_error_has_an_example_here() -> None:
    """The tests below leave none out."""
    assert {type(error).__name__ for error in EXAMPLES} == set(public())


@pytest.mark.parametrize("kind", public().values(), ids=lambda kind: kind.__name__)
def test_every_error_is_documented(kind: type[BaseException]) -> None:
    """Each says in its docstring what happened; and every attribute of its own is there too."""
    assert kind.__doc__
    inherited = {"self", "message", "location", "concerned", "args", "kwargs"}
    own = [name for name in inspect.signature(kind.__init__).parameters if name not in inherited]
    told = "".join(base.__doc__ or "" for base in kind.__mro__ if base.__module__.startswith("cano."))
    assert [name for name in own if not re.search(rf"\b{name}\b[\w, ]*:", told)] == []


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (ConfigurationError, ValueError),
        (ValidationError, ValueError),
        (StepTimeoutError, TimeoutError),
        (RunTimeoutError, TimeoutError),
        (KeyNotFoundError, KeyError),
        (TypeMismatchError, TypeError),
        (SerializationError, TypeError),
        (RunNotFoundError, LookupError),
        (NodeError, TaskError),
        (RetryExhaustedError, TaskError),
        (TransitionError, WorkflowError),
        (JoinError, WorkflowError),
        (RunCancelledError, WorkflowError),
        (RunInterruptedError, WorkflowError),
        (VersionMismatchError, WorkflowError),
        (KeyNotFoundError, StoreError),
        (TypeMismatchError, StoreError),
        (ConflictError, StoreError),
        (StoreUnavailableError, StoreError),
        (MergeConflictError, StoreError),
        (SerializationError, StoreError),
        (PermanentStoreError, StoreError),
        (KeyNotFoundError, PermanentStoreError),
        (TypeMismatchError, PermanentStoreError),
        (SerializationError, PermanentStoreError),
        (MergeConflictError, PermanentStoreError),
        (RunNotFoundError, PermanentStoreError),
        (TransientStoreError, StoreError),
        (ConflictError, TransientStoreError),
        (StoreUnavailableError, TransientStoreError),
    ],
)
def test_what_an_error_also_is(error: type[CanoError], also: type[Exception]) -> None:
    """The promises of the design, by name."""
    assert issubclass(error, also)


@pytest.mark.parametrize("kind", [kind for kind in public().values() if issubclass(kind, StoreError)])
def test_a_store_error_is_permanent_or_transient(kind: type[StoreError]) -> None:
    """Every class below `StoreError` says whether a retry may succeed, and none says both."""
    said = [base for base in (PermanentStoreError, TransientStoreError) if issubclass(kind, base)]
    assert len(said) == (0 if kind is StoreError else 1)


def attributes(error: BaseException) -> dict[str, Any]:
    """Everything that an error knows, notes aside."""
    return {name: value for name, value in vars(error).items() if name != "__notes__"}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_errors_travel(error: CanoError, travel: Any) -> None:
    """Pickled and copied, an error is of the same class, says the same and knows the same."""
    arrived = travel(error)

    assert type(arrived) is type(error)
    assert arrived is not error
    assert str(arrived) == str(error)
    assert attributes(arrived) == attributes(error)


@pytest.mark.parametrize("error", [error for error in EXAMPLES if isinstance(error, WorkflowError)], ids=repr)
def test_notes_travel_too(error: WorkflowError) -> None:
    """The line that says where it happened is there once, not twice."""
    arrived = pickle.loads(pickle.dumps(error))

    assert arrived.__notes__ == error.__notes__ == ["at run r1, workflow orders, state State.WORK, attempt 2"]


def test_notes_of_a_validation_error_travel() -> None:
    """A note that somebody added is not lost on the way."""
    error = ValidationError("orders", ["problem"])
    error.add_note("while starting")

    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while starting"]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_messages_are_for_people(error: CanoError) -> None:
    """`str` of every error is its message, also where `KeyError` would show a repr."""
    if not isinstance(error, ValidationError):
        assert str(error) == "message"


def test_errors_can_be_made_from_a_message_alone() -> None:
    """Every attribute has a default, so that plugins can raise them."""
    for kind in public().values():
        error = kind("message")
        assert "message" in str(error)
        assert not getattr(error, "__notes__", [])


# what each one knows


def test_validation_error() -> None:
    """It has the workflow's name and every problem, and shows them one a line."""
    error = ValidationError("orders", ["first problem", "second problem"])

    assert error.workflow == "orders"
    assert error.problems == ("first problem", "second problem")
    assert str(error) == "workflow 'orders' has 2 problem(s):\n  - first problem\n  - second problem"


def test_plugin_error() -> None:
    """It has the plugin's name and its distribution."""
    error = PluginError("message", plugin="retry", distribution="cano-retry 1.0")

    assert (error.plugin, error.distribution) == ("retry", "cano-retry 1.0")
    assert (PluginError("message").plugin, PluginError("message").distribution) == (None, None)


@pytest.mark.parametrize("error", [error for error in EXAMPLES if isinstance(error, WorkflowError)], ids=repr)
def test_workflow_errors_know_where(error: WorkflowError) -> None:
    """Run, workflow, state and attempt, as attributes and as a note."""
    assert (error.run_id, error.workflow, error.state, error.attempt) == ("r1", "orders", State.WORK, 2)
    assert error.__notes__ == ["at run r1, workflow orders, state State.WORK, attempt 2"]


def test_the_note_has_what_is_known() -> None:
    """What is not known is not mentioned; where nothing is, there is no note."""
    assert WorkflowError("message", workflow="orders", attempt=1).__notes__ == ["at workflow orders, attempt 1"]
    assert not hasattr(WorkflowError("message"), "__notes__")


def test_own_attributes() -> None:
    """What an error was given is what it has, collections as tuples."""
    transition = TransitionError("message", returned=[1], allowed=iter(["a", "b"]))
    exhausted = RetryExhaustedError("message", attempts=4, phase="exec")
    timeout = StepTimeoutError("message", timeout=2.5, total=True, abandoned=True)
    mismatch = VersionMismatchError("message", differences=iter(["one"]))
    conflict = MergeConflictError("message", key="a", values={"0:x": 1})

    assert (transition.returned, transition.allowed) == ([1], ("a", "b"))
    assert (exhausted.attempts, exhausted.phase) == (4, "exec")
    assert (timeout.timeout, timeout.total, timeout.abandoned) == (2.5, True, True)
    assert RunTimeoutError("message", timeout=3).timeout == 3
    assert NodeError("message", phase="prep").phase == "prep"
    assert JoinError("message", outcome=5).outcome == 5
    assert mismatch.differences == ("one",)
    assert (conflict.key, conflict.values) == ("a", {"0:x": 1})


@pytest.mark.parametrize("kind", [KeyNotFoundError, TypeMismatchError, SerializationError])
def test_errors_about_a_value(kind: type[Any]) -> None:
    """Key, expected and actual type."""
    error = kind("message", key="count", expected=int, actual=str)

    assert (error.key, error.expected, error.actual) == ("count", int, str)
    assert (kind("message").key, kind("message").expected, kind("message").actual) == (None, None, None)


def test_store_errors_know_key_and_run() -> None:
    """Where there is one."""
    error = StoreError("message", key="count", run_id="r1")

    assert (error.key, error.run_id) == ("count", "r1")
    assert (StoreError("message").key, StoreError("message").run_id) == (None, None)


def test_a_timeout_can_be_caught_as_the_builtin() -> None:
    """`except TimeoutError`, `except KeyError` and so on work."""
    with pytest.raises(TimeoutError):
        raise RunTimeoutError("message", timeout=1)
    with pytest.raises(KeyError):
        raise KeyNotFoundError("message", key="a")
    with pytest.raises(LookupError):
        raise RunNotFoundError("message", run_id="a")
    with pytest.raises(ValueError, match="message"):
        raise ConfigurationError("message")
