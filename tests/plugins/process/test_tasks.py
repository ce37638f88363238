"""Tasks in worker processes: what they see, what comes back, and what is refused."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, cast

import pytest
from cano import (
    CodeVersionError,
    ConfigurationError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    MergeConflictError,
    NodeError,
    RemoteError,
    RetryExhaustedError,
    RunResult,
    SerializationError,
    SubWorkflow,
    Task,
    TaskConfig,
    TaskError,
    Workflow,
    task,
)
from cano_memory import MemoryStore
from cano_remote import naming

from tests.plugins.process import programs
from tests.plugins.process.programs import CPU, Fallback, Multiply, OddError, Order, State, flow, split

Data = dict[str, Any]


async def failure(kernel: Kernel, does: str, data: Data) -> BaseException:
    """What the task of a run raised."""
    with pytest.raises(TaskError) as caught:
        await kernel.run(flow(), data | {"does": does})
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


async def test_a_task_sees_its_step_and_changes_the_data(kernel: Kernel, data: Data) -> None:
    """Values keep their types, each kind of change comes back, and the step is that of the run."""
    given = data | {"does": "write", "order": Order(1, ["first"]), "list": [1, 2], "old": 0}
    result = await kernel.run(flow(), given, run_id="r")

    told = [True, "r", "work", State.WORK, 1, 1, None, "r:1", "work", True]
    assert result == RunResult(
        "r", State.DONE,
        data | {
            "does": "write", "order": Order(1, ["first", "changed in place"]), "list": [1, 2, 3], "told": told,
            "made": Order(2), "new list": ["first"],
        },
        1,
    )  # fmt: skip


async def test_the_exec_phase_of_a_node(kernel: Kernel, data: Data) -> None:
    """`exec` is executed elsewhere, with the node's attributes; `prep` and `post` are not."""
    result = await kernel.run(flow(Multiply(3)), {"order": Order(4)})

    assert result.data["order"].number == 12
    phase, pid = result.data["order"].lines
    assert phase == "exec"
    assert int(pid) != result.data["prepared by"] == os.getpid()
    assert (await kernel.run(flow(Fallback(3)), {"order": Order(4)})).data["order"] == Order(4, ["fall back"])


async def test_only_nodes_use_the_default_executor(workers: Any, data: Data) -> None:
    """`Kernel(executor=…)` executes the `exec` phases of nodes whose config names none, and no other task."""
    async with Kernel(executor={"default": workers, "cpu": workers}) as kernel:
        node = await kernel.run(flow(Multiply(3, TaskConfig()), TaskConfig()), {"order": Order(4)})
        plain = await kernel.run(flow(config=TaskConfig()), data | {"does": "finish"})

    assert int(node.data["order"].lines[1]) != os.getpid()
    assert plain.data["told"][0] is False


async def test_branches(kernel: Kernel) -> None:
    """Each branch is a call. What branches write is merged, and a conflict is found as in one process."""
    result = await kernel.run(split(programs.left, programs.right, Branch()), {})
    assert result.data["left"][1] == "0:left"
    assert os.getpid() not in (result.data["left"][0], result.data["right"][0])
    assert result.data["right"][1] is None
    assert current_pid(result.data["branch"]) is False

    with pytest.raises(MergeConflictError, match="left"):
        await kernel.run(split(programs.left, programs.both), {"left": 1})


async def test_each_branch_has_its_own_executor(workers: Any) -> None:
    """The config of a branch's task names where it is executed, and the workflow's is for those that have none."""
    made: Workflow[State] = Workflow(State.WORK, name="split", default_config=CPU)
    branches: list[Any] = [task(config=TaskConfig(executor="here"))(programs.left), programs.right]
    made.register_split(State.WORK, branches, JoinConfig(JoinStrategy.all(), State.DONE)).add_exit_state(State.DONE)
    async with Kernel(executor={"cpu": workers, "here": None}) as kernel:
        data = (await kernel.run(made, {})).data
    assert data["left"][0] == os.getpid()
    assert data["right"][0] != os.getpid()


class Branch(Task[Any]):
    """A branch that is an object, with an attribute to be sent."""

    def __init__(self) -> None:
        self.word = "sent"

    async def run(self, store: Any) -> Any:
        """Write it."""
        store["branch"] = [self.word, os.getpid()]


def current_pid(told: list[Any]) -> bool:
    """Whether a branch was executed in this process."""
    assert told[0] == "sent"
    return bool(told[1] == os.getpid())


async def test_partials(kernel: Kernel) -> None:
    """The arguments of a partial are sent."""
    added = await kernel.run(flow(partial(programs.add, Order(2), more=[3])), {})
    assert added.data["sum"] == [Order(2), [3], False]


async def test_no_executor(data: Data) -> None:
    """A name may stand for the process of the run, so that a program decides where its tasks are executed."""
    async with Kernel(executor={"cpu": None}) as kernel:
        assert (await kernel.run(flow(), data | {"does": "finish"})).data["told"][0] is False


async def test_waits(kernel: Kernel, data: Data) -> None:
    """A task parks its run, and the next one, elsewhere, gets the signal's payload."""
    handle = await kernel.start(flow(), data | {"does": "wait"}, run_id="r")
    await kernel.signal("r", "go", Order(5))
    assert (await handle.result()).data["payload"] == Order(5)
    assert (await kernel.run(flow(), data | {"does": "sleep"})).data["payload"] is None


async def test_a_process_of_its_own(kernel: Kernel, data: Data) -> None:
    """A task may use multiprocessing: workers are ordinary processes."""
    assert (await kernel.run(flow(), data | {"does": "children"})).data["doubled"] == [8]


async def test_left_tasks_end(kernel: Kernel, data: Data) -> None:
    """An asyncio task that a task leaves behind is cancelled when the call ends."""
    await kernel.run(flow(programs.leave_a_task), data)
    await kernel.run(flow(programs.leave_a_task), data)
    assert os.listdir(data["folder"]) == []


# errors


async def test_an_error_keeps_class_arguments_and_attributes(kernel: Kernel, data: Data) -> None:
    """It is the error that the task raised. A note has the other process and its traceback; the changes are gone."""
    store = MemoryStore(data | {"does": "odd"})
    with pytest.raises(TaskError) as caught:
        await kernel.run(flow(), store)
    error = caught.value.__cause__

    assert isinstance(error, OddError)
    assert (error.args, error.number, error.hint) == (("odd: 7",), 7, "look")
    (note,) = error.__notes__
    assert note.startswith("raised in process ")
    assert "in raise_odd" in note
    assert "lost" not in store


@pytest.mark.parametrize(
    ("does", "name", "text"),
    [
        ("unsendable", "tests.plugins.process.programs:UnsendableError", "it has"),
        ("local", "tests.plugins.process.programs:raise_local.<locals>.LocalError", "made here"),
        ("leave", "builtins:SystemExit", "3"),
        ("cancel", "asyncio.exceptions:CancelledError", ""),
    ],
)
async def test_an_error_that_cannot_be_sent(kernel: Kernel, data: Data, does: str, name: str, text: str) -> None:
    """Its class, its text and its traceback arrive. A worker survives a task that leaves the program."""
    error = await failure(kernel, does, data)

    assert isinstance(error, RemoteError)
    assert error.error_type == name
    assert text in str(error)
    assert f"{name.partition(':')[2].rpartition('.')[2]}" in error.__notes__[0]


async def test_a_result_that_cannot_be_sent(kernel: Kernel, data: Data) -> None:
    """The error names the class of the value."""
    error = await failure(kernel, "return unsendable", data)

    assert isinstance(error, SerializationError)
    assert "lock" in str(error)


async def test_retries(workers: Any, data: Data) -> None:
    """What a task raises elsewhere is retried here, and the error of a node names its phase."""
    async with Kernel(executor={"cpu": workers}) as kernel:
        config = TaskConfig(retry="none", executor="cpu")
        with pytest.raises(NodeError) as caught:
            await kernel.run(flow(Failing(1, config)), {"order": Order(1)})
        assert caught.value.phase == "exec"
        with pytest.raises(RetryExhaustedError):
            await kernel.run(flow(config=TaskConfig(retry=Twice(), executor="cpu")), data | {"does": "odd"})


class Failing(Multiply):
    """A node whose `exec` fails."""

    async def exec(self, prepared: Order) -> Order:
        """Fail."""
        raise OddError(1, hint="")


class Twice:
    """One retry, at once."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Retry once."""
        return 0.0 if attempt == 1 else None


# what is refused


async def local(store: Any) -> Any:
    """A function whose name leads to another one."""


RENAMED, local = local, partial(local)


class Callable_:  # noqa: N801
    """An object that can be called."""

    async def __call__(self, store: Any) -> Any:
        """Do nothing."""


class Slotted(Task[Any]):
    """A task with an attribute that cannot be sent, in a slot."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = os.scandir

    async def run(self, store: Any) -> Any:
        """Do nothing."""


def inner() -> Any:
    """A function that is local to another one."""

    async def task(store: Any) -> Any:
        return State.DONE

    return task


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (inner(), "inner.<locals>.task cannot be sent to another process: it is local to a function"),
        (lambda store: State.DONE, "<lambda> cannot be sent to another process: a lambda has no name of its own"),
        (RENAMED, "its name leads to another object; define it at the top of a module"),
        (Slotted(), "attribute 'lock' of the task Slotted cannot be sent to another process: "),
        (Multiply(object()), "attribute 'factor' of the task Multiply cannot be sent"),  # type: ignore[arg-type]
        (partial(cast(Any, programs.add), os.scandir, more=[]), "an argument of the partial of <function add"),
        (partial(inner()), "inner.<locals>.task cannot be sent to another process"),
        (Callable_(), "cannot be sent to another process: it has no name"),
    ],
)
async def test_a_task_that_cannot_be_sent(kernel: Kernel, function: Any, problem: str) -> None:
    """It is refused when the workflow is bound, with state and attribute, before anything is executed."""
    with pytest.raises(ConfigurationError) as caught:
        await kernel.run(flow(function), {})

    assert problem in str(caught.value)
    assert caught.value.state is State.WORK
    assert caught.value.key == ("lock" if "lock" in problem else "factor" if "factor" in problem else None)
    assert any("state State.WORK" in note or "work" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (TaskConfig(executor="cqu"), "executor 'cqu' is unknown (did you mean 'cpu'?); the kernel has 'cpu'"),
        (TaskConfig(executor="cpu", resources={"GPU": 1}), "the executor has no resource 'GPU'; it has none"),
    ],
)
async def test_configs_that_are_refused(kernel: Kernel, config: TaskConfig, problem: str) -> None:
    """A name or a resource that the kernel does not have is refused when the workflow is bound."""
    with pytest.raises(ConfigurationError) as caught:
        await kernel.run(flow(config=config), {})
    assert problem in str(caught.value)


async def test_a_split_whose_branches_come_later(kernel: Kernel) -> None:
    """Its executor is checked when the workflow is bound, not when a run comes to the split."""
    made: Workflow[State] = Workflow(State.WORK, name="split")
    made.register_split(
        State.WORK, lambda store: [programs.left], JoinConfig(JoinStrategy.all(), State.DONE),
        config=TaskConfig(executor="cqu"),
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="'cqu' is unknown"):
        kernel.bind(made.add_exit_state(State.DONE))


async def test_bound_before_the_kernel_opens(data: Data) -> None:
    """A workflow that is bound before its kernel opens is executed where its config says."""
    kernel = Kernel(executor={"cpu": "process://?workers=1"})
    made = flow()
    kernel.bind(made)
    async with kernel:
        assert (await kernel.run(made, data | {"does": "finish"})).data["told"][0] is True


async def test_plugins_that_are_missing(workers: Any) -> None:
    """Without the plugin or the codec, the error says what to install or to unblock."""
    for name in ("remote", "msgspec"):
        async with Kernel(executor={"cpu": workers}, block=[name]) as kernel:
            with pytest.raises(ConfigurationError, match=f"the plugin '{name}', .* is blocked"):
                await kernel.run(flow(), {})


async def test_an_object_of_the_program(kernel: Kernel) -> None:
    """A run on an object of the program's own is refused: its changes could not come back."""
    with pytest.raises(TaskError) as caught:
        await kernel.run(flow(), object())
    assert "works on an object of the program's own" in str(caught.value)


async def test_a_sub_workflow_stays_here(kernel: Kernel, data: Data) -> None:
    """The config of a whole workflow does not send its sub-workflows, whose own tasks may be sent."""
    outer: Workflow[State] = Workflow(State.WORK, name="outer", default_config=CPU)
    child = SubWorkflow(flow(), {"parent": "parent", "does": "does"}, {"told": "told"}, then=State.DONE)
    outer.register(State.WORK, child).add_exit_state(State.DONE)
    assert (await kernel.run(outer, data | {"does": "finish"})).data["told"][0] is True


async def test_another_version_of_the_code(kernel: Kernel, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose module has another source refuses the call, and names the module. Nothing is executed."""
    monkeypatch.setattr(naming, "source_digest", lambda module: "other")
    with pytest.raises(TaskError) as caught:
        await kernel.run(flow(), data | {"does": "finish"})

    assert isinstance(caught.value.__cause__, CodeVersionError)
    assert caught.value.__cause__.name == "tests.plugins.process.programs:work"
    assert "has another version of the module" in str(caught.value)


async def test_code_that_is_not_there(kernel: Kernel, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot import the task names it."""
    monkeypatch.setattr(naming, "_name", lambda named, meant: "missing_module:work")
    with pytest.raises(TaskError) as caught:
        await kernel.run(flow(), data | {"does": "finish"})

    assert isinstance(caught.value.__cause__, CodeVersionError)
    assert "cannot import the task missing_module:work: No module named 'missing_module'" in str(caught.value)
