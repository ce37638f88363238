"""`Workflow`: defining, checking, drawing, hashing, and the short ways to run one."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, cast

import pytest
from cano import (
    ConfigurationError,
    FunctionTask,
    JoinConfig,
    JoinStrategy,
    Kernel,
    Registration,
    SubWorkflow,
    Task,
    TaskConfig,
    TaskError,
    TransitionError,
    ValidationError,
    Workflow,
    default_kernel,
    state_name,
    task,
)
from cano_memory import MemoryStore


class State(Enum):
    """The states of most workflows here."""

    START = "start"
    WORK = "work"
    DONE = "done"


class Other(Enum):
    """States of another workflow."""

    DONE = "done"


async def to_work(store: Any) -> Literal[State.WORK]:
    """The first task."""
    return State.WORK


async def to_done(store: Any) -> Literal[State.DONE]:
    """The second task."""
    return State.DONE


def good() -> Workflow[State]:
    """A workflow without any problem."""
    return Workflow(State.START).register(State.START, to_work).register(State.WORK, to_done).add_exit_state(State.DONE)


# making one


def test_defaults() -> None:
    """A workflow of an enum is named for it; its version is "1"; it has nothing else yet."""
    flow = Workflow(State.START)

    assert (flow.name, flow.version, flow.start, flow.default_config) == ("State", "1", State.START, None)
    assert (dict(flow.tasks), flow.exit_states) == ({}, ())


def test_states_of_any_hashable_kind() -> None:
    """Strings, numbers and tuples are states too; such a workflow is named "workflow"."""
    assert Workflow("start").name == "workflow"
    assert Workflow(1).start == 1
    assert Workflow(("start", 1)).start == ("start", 1)


def test_name_and_version_are_kept() -> None:
    """What the arguments say is what the attributes are."""
    config = TaskConfig(timeout=1)
    flow = Workflow(State.START, name="orders", version="2.1", default_config=config)

    assert (flow.name, flow.version) == ("orders", "2.1")
    assert flow.default_config is config
    assert repr(flow) == "<Workflow 'orders' version '2.1', 0 task(s)>"


@pytest.mark.parametrize("option", ["name", "version"])
@pytest.mark.parametrize("value", ["", 1, b"x", State.START])
def test_name_and_version_must_be_text(option: str, value: Any) -> None:
    """They are written into stores, so only text will do."""
    with pytest.raises(
        ConfigurationError, match=f"{option} must be a string that is not empty and contains no NUL, not"
    ):
        Workflow(State.START, **{option: value})


@pytest.mark.parametrize("state", [[], {}, set()])
def test_start_must_be_hashable(state: Any) -> None:
    """A state that cannot be looked up is refused at once."""
    with pytest.raises(ConfigurationError, match="a state must be hashable"):
        Workflow(state)


def test_start_is_a_state_and_not_the_enum() -> None:
    """The enum itself in place of a member is a common slip; the message says what to write."""
    with pytest.raises(ConfigurationError, match=r"such as State\.START, not the class itself"):
        Workflow(State)


@pytest.mark.parametrize("config", [1, "fixed", {}])
def test_default_config_of_another_kind_is_refused(config: Any) -> None:
    """Only a `TaskConfig` is a config."""
    with pytest.raises(ConfigurationError, match="config must be a TaskConfig"):
        Workflow(State.START, default_config=config)


def test_unknown_option_is_refused() -> None:
    """A misspelled option is an error, not ignored."""
    with pytest.raises(TypeError, match="versoin"):
        Workflow(State.START, versoin="2")  # type: ignore[call-arg]


# registering


def test_registering_is_fluent_and_kept_in_order() -> None:
    """Every method returns the workflow; states, tasks and exits can be looked at in order."""
    config = TaskConfig(timeout=1)
    flow = Workflow(State.START)

    assert flow.register(State.WORK, to_done, config=config) is flow
    assert flow.register(State.START, to_work) is flow
    assert flow.add_exit_state(State.DONE) is flow
    assert flow.add_exit_states([]) is flow
    assert list(flow.tasks) == [State.WORK, State.START]
    assert flow.tasks[State.WORK].config is config
    assert flow.tasks[State.WORK].targets == (State.DONE,)
    assert flow.exit_states == (State.DONE,)


def test_what_is_looked_at_cannot_change_the_workflow() -> None:
    """`tasks` is a copy, and a registration cannot be changed."""
    flow = good()
    flow.tasks.clear()  # type: ignore[attr-defined]

    assert list(flow.tasks) == [State.START, State.WORK]
    with pytest.raises(AttributeError):
        flow.tasks[State.START].state = State.DONE  # type: ignore[misc]


def test_a_task_is_kept_as_it_is_and_a_function_is_wrapped() -> None:
    """`register` takes both."""

    class Work(Task[State]):
        async def run(self, store: Any) -> State:
            return State.DONE

    work = Work()
    flow = Workflow(State.START).register(State.START, work).register(State.WORK, to_done)

    assert flow.tasks[State.START] == Registration(State.START, work)
    wrapped = flow.tasks[State.WORK].task
    assert isinstance(wrapped, FunctionTask)
    assert wrapped.function is to_done


def test_registering_a_state_twice_is_refused() -> None:
    """A second task would silently replace the first; the message names both."""
    with pytest.raises(
        ConfigurationError, match=r"State\.WORK of workflow 'State' already has the task 'to_done'"
    ) as caught:
        good().register(State.WORK, to_work)
    assert caught.value.state is State.WORK


@pytest.mark.parametrize("work", [5, "name", None])
def test_registering_what_is_no_task_is_refused(work: Any) -> None:
    """Only tasks and functions do work, and the failed call leaves nothing behind."""
    flow = Workflow(State.START)

    with pytest.raises(ConfigurationError, match="must be a function of the store"):
        flow.register(State.START, work)
    assert dict(flow.tasks) == {}


def test_an_object_with_a_run_method_that_is_not_a_task() -> None:
    """The error names the class to derive it from: registered, decorated and as a branch."""

    class Work:
        async def run(self, store: Any) -> State:
            return State.DONE

    flow, work = Workflow(State.START), cast("Any", Work)
    join = JoinConfig(JoinStrategy.all(), State.DONE)

    for method in (
        lambda: flow.register(State.START, work()),
        lambda: flow.on(State.START)(work),
        lambda: flow.register_split(State.START, [work()], join),
    ):
        with pytest.raises(ConfigurationError) as caught:
            method()
        assert str(caught.value) == "Work has a run method, but is not a Task: derive it from cano.Task"


@pytest.mark.parametrize("decorated", [to_done, task(to_done), Task], ids=["function", "task", "class"])
def test_on_without_its_state(decorated: Any) -> None:
    """A forgotten state is told at once, not by the first run."""
    with pytest.raises(ConfigurationError, match=r"^@flow\.on needs the state: @flow\.on\(State\.X\)$"):
        Workflow(State.START).on(decorated)


def test_registering_a_class_is_refused() -> None:
    """A forgotten pair of parentheses is told apart from a function."""

    class Work(Task[State]):
        async def run(self, store: Any) -> State:
            return State.DONE

    with pytest.raises(ConfigurationError, match=r"register an instance: Work\(\), not the class Work"):
        Workflow(State.START).register(State.START, Work)  # type: ignore[arg-type]


def test_registering_an_unhashable_state_is_refused() -> None:
    """States of every method are checked."""
    flow: Workflow[Any] = Workflow("start")

    for method in (lambda: flow.register([], to_work), lambda: flow.add_exit_state([]), lambda: flow.on([])(to_work)):
        with pytest.raises(ConfigurationError, match="a state must be hashable"):
            method()


@pytest.mark.parametrize("config", [1, "fixed", {}])
def test_registering_with_a_config_of_another_kind_is_refused(config: Any) -> None:
    """Only a `TaskConfig` is a config, and the failed call leaves nothing behind."""
    flow = Workflow(State.START)

    with pytest.raises(ConfigurationError, match="config must be a TaskConfig"):
        flow.register(State.START, to_work, config=config)
    assert dict(flow.tasks) == {}


def test_exit_states() -> None:
    """They can be added one by one or many at once; twice is once."""
    flow = Workflow("a").add_exit_states(iter(["x", "y"])).add_exit_state("z").add_exit_state("x")

    assert flow.exit_states == ("x", "y", "z")


async def test_a_bound_workflow_cannot_be_changed(kernel: Kernel) -> None:
    """Once a kernel runs it, its definition stands: every method that would change it raises."""
    flow = good()
    await kernel.run(flow)

    for method in (
        lambda: flow.register(State.DONE, to_work),
        lambda: flow.on(State.DONE)(to_work),
        lambda: flow.add_exit_state(State.WORK),
        lambda: flow.add_exit_states([State.WORK]),
    ):
        with pytest.raises(ConfigurationError, match="'State' is already bound"):
            method()
    assert flow.exit_states == (State.DONE,)
    assert list(flow.tasks) == [State.START, State.WORK]


async def test_an_invalid_workflow_is_not_bound_and_can_be_completed(kernel: Kernel) -> None:
    """A validation that failed at bind leaves the workflow open."""
    flow = Workflow("a").register("a", lambda store: "b")
    with pytest.raises(ValidationError):
        await kernel.run(flow)

    assert (await kernel.run(flow.add_exit_state("b"))).state == "b"


# the decorator


async def test_on_registers_functions(kernel: Kernel) -> None:
    """`@flow.on(state)` registers what it decorates, and leaves it what it was."""
    flow: Workflow[str] = Workflow("a")

    @flow.on("a")
    async def first(store: Any) -> str:
        store["first"] = True
        return "b"

    @flow.on("b", config=TaskConfig(timeout=1))
    def second(store: Any) -> str:
        store["second"] = True
        return "end"

    flow.add_exit_state("end")

    assert await first({}) == "b"
    assert second({}) == "end"
    assert flow.tasks["b"].config == TaskConfig(timeout=1)
    assert (await kernel.run(flow)).data == {"first": True, "second": True}


def test_on_registers_tasks_and_classes() -> None:
    """A task is registered as it is, a class is made into one without arguments."""
    flow: Workflow[str] = Workflow("a")

    @flow.on("a")
    @task(config=TaskConfig(timeout=1))
    async def first(store: Any) -> str:
        return "b"

    @flow.on("b")
    class Second(Task[str]):
        async def run(self, store: Any) -> str:
            return "end"

    assert flow.tasks["a"].task is first
    assert type(flow.tasks["b"].task) is Second


def test_on_refuses_what_register_refuses() -> None:
    """The decorator checks as the method does."""
    flow = good()

    with pytest.raises(ConfigurationError, match="already has the task"):
        flow.on(State.WORK)(to_done)


# checking


def problems(flow: Workflow[Any]) -> list[str]:
    """What is wrong with a workflow."""
    with pytest.raises(ValidationError) as caught:
        flow.validate()
    assert caught.value.workflow == flow.name
    return list(caught.value.problems)


def test_a_good_workflow_is_returned() -> None:
    """`validate` returns the workflow, for chaining."""
    flow = good()

    assert flow.validate() is flow


def test_no_start() -> None:
    """A start state without a task cannot begin."""
    flow = Workflow("a").register("b", lambda store: "end").add_exit_state("end")

    assert problems(flow) == ["the start state a has no task"]


def test_no_exit() -> None:
    """Without an exit state a run could never end."""
    assert problems(Workflow("a").register("a", lambda store: "a")) == ["there is no exit state: a run could never end"]


def test_an_exit_state_with_a_task() -> None:
    """Such a task would never run."""
    flow = good().register(State.DONE, to_work)

    assert problems(flow)[0] == "the exit state State.DONE has a task (to_work), which would never run"


def test_a_member_of_the_enum_that_the_flow_does_not_use() -> None:
    """Two workflows can share an enum: a member that one of them does not name is no problem of it."""
    flow = Workflow(State.START).register(State.START, lambda store: State.DONE).add_exit_state(State.DONE)

    assert flow.validate() is flow


def test_a_member_of_the_enum_that_is_a_target_without_a_task() -> None:
    """A member that a task declares as its target needs a task, or is an exit state."""
    flow = Workflow(State.START).add_exit_state(State.DONE)
    flow.register(State.START, task(targets=[State.WORK, State.DONE])(lambda store: State.DONE))

    assert problems(flow) == [
        "the state State.START declares the target <State.WORK: 'work'>, which has no task and is not an exit state"
    ]


async def test_a_member_of_the_enum_that_a_task_returns_unused(kernel: Kernel) -> None:
    """A member that the flow does not name is refused when a task returns it."""
    flow = Workflow(State.START).register(State.START, lambda store: State.WORK).add_exit_state(State.DONE)

    with pytest.raises(TransitionError, match="which is not a state of the workflow"):
        await kernel.run(flow)


async def test_parent_and_child_share_an_enum(kernel: Kernel) -> None:
    """A parent and its sub-workflow, each with a part of one enum's members, run."""
    child = Workflow(State.WORK, name="child").register(State.WORK, lambda store: State.DONE)
    child.add_exit_state(State.DONE)
    parent = Workflow(State.START, name="parent").add_exit_state(State.DONE)
    parent.register(State.START, SubWorkflow(child, then=State.DONE))

    assert (await kernel.run(parent)).state is State.DONE


def test_a_state_of_another_enum() -> None:
    """States of a foreign enum are named."""
    flow: Workflow[Any] = Workflow(State.START).register(State.START, lambda store: State.WORK)
    flow.register(State.WORK, lambda store: State.DONE).add_exit_states([State.DONE, Other.DONE])

    assert problems(flow) == [
        "the state <Other.DONE: 'done'> is not a member of State",
        "the states <State.DONE: 'done'>, <Other.DONE: 'done'> have the same name 'DONE'",
    ]


def test_two_states_of_one_name() -> None:
    """States are written by name into stores, so each needs its own."""
    flow: Workflow[Any] = Workflow("1")
    flow.register("1", lambda store: "end").register(1, lambda store: "end")

    assert problems(flow.add_exit_state("end")) == ["the states '1', 1 have the same name '1'"]


def test_a_declared_target_that_is_nothing() -> None:
    """A declared target has a task, or is an exit state."""
    flow = Workflow("a").register("a", task(targets=["b", "end"])(lambda store: "b")).add_exit_state("end")

    assert problems(flow) == ["the state a declares the target 'b', which has no task and is not an exit state"]


@pytest.mark.parametrize("where", ["registration", "task"])
def test_on_exhausted_that_is_nothing(where: str) -> None:
    """Where retries lead has a task, or is an exit state."""
    config = TaskConfig(on_exhausted="b")
    flow = Workflow("a").add_exit_state("end")
    if where == "task":
        flow.register("a", task(config=config)(lambda store: "end"))
    else:
        flow.register("a", lambda store: "end", config=config)

    assert problems(flow) == ["the state a has on_exhausted='b', which has no task and is not an exit state"]


async def test_default_on_exhausted_that_is_nothing(kernel: Kernel) -> None:
    """The same in the workflow's default config is found at bind at the latest, with an error of Cano's."""
    flow = Workflow("a", default_config=TaskConfig(on_exhausted="edn"))
    flow.register("a", lambda store: "end").add_exit_state("end")

    with pytest.raises((ConfigurationError, ValidationError), match=r"on_exhausted='edn' .* \(did you mean 'end'\?\)"):
        await kernel.run(flow)


def test_an_unreachable_state() -> None:
    """Where every target is declared, a state or exit that nothing leads to is found."""
    end = task(targets=["end"])(lambda store: "end")
    flow = Workflow("a").register("a", end).register("b", end).add_exit_states(["end", "other"])

    assert problems(flow) == ["the state b is unreachable from a", "the state other is unreachable from a"]


def test_a_loop_with_no_way_out() -> None:
    """Where every target is declared, states that can never come to an exit are found; other loops are fine."""
    flow: Workflow[str] = Workflow("a").add_exit_state("end")
    flow.register("a", task(targets=["a", "b", "end"])(lambda store: "b"))
    flow.register("b", task(targets=["c"])(lambda store: "c"))
    flow.register("c", task(targets=["b"])(lambda store: "b"))

    assert problems(flow) == [
        "the state b is in a loop with no way out to an exit state",
        "the state c is in a loop with no way out to an exit state",
    ]


def test_a_state_that_is_in_no_loop() -> None:
    """A state that leads into a loop, to a state without a task or nowhere is not itself in a loop."""
    flow: Workflow[str] = Workflow("a").add_exit_state("end")
    flow.register("a", task(targets=["b"])(lambda store: "b"))
    flow.register("b", task(targets=["b", "c", "d"])(lambda store: "b"))
    flow.register("c", task(targets=["lost"])(lambda store: "c"))
    flow.register("d", task(targets=[])(lambda store: "d"))

    assert problems(flow) == [
        "the state c declares the target 'lost', which has no task and is not an exit state",
        "the state end is unreachable from a",
        "the state b is in a loop with no way out to an exit state",
        "the state d declares no target",
    ]


def test_misspelt_states() -> None:
    """Wherever a state is misspelt, the problem names the one that was probably meant."""
    flow: Workflow[Any] = Workflow("STRAT", migrate={"OLD": "SATRT"})
    flow.add_exit_state(State.DONE).register(
        "START", task(targets=["DOEN"])(lambda store: "DOEN"), config=TaskConfig(on_exhausted="DONE")
    )

    unknown = "which has no task and is not an exit state"
    assert [problem for problem in problems(flow) if "did you mean" in problem] == [
        "the start state STRAT has no task (did you mean 'START'?)",
        f"migrate maps the old state OLD to 'SATRT', {unknown} (did you mean 'START'?)",
        f"the state START declares the target 'DOEN', {unknown} (did you mean <State.DONE: 'done'>?)",
        f"the state START has on_exhausted='DONE', {unknown} (did you mean <State.DONE: 'done'>?)",
    ]


def test_on_exhausted_counts_as_a_way() -> None:
    """A state reached only when retries are used up is reachable, and such a way out is one."""
    flow: Workflow[str] = Workflow("a").add_exit_states(["end", "gave up"])
    flow.register("a", task(targets=["end"])(lambda store: "end"), config=TaskConfig(on_exhausted="b"))
    flow.register("b", task(targets=["b"], config=TaskConfig(on_exhausted="gave up"))(lambda store: "b"))

    assert flow.validate() is flow


def test_undeclared_targets_silence_the_graph() -> None:
    """Where one task may lead anywhere, nothing is unreachable and no loop is without a way out."""
    flow: Workflow[str] = Workflow("a").add_exit_states(["end", "other"])
    flow.register("a", lambda store: "end")
    flow.register("b", task(targets=["b"])(lambda store: "b"))

    assert flow.validate() is flow


def test_every_problem_at_once() -> None:
    """`validate` reports all that it finds, in one error, each in a line of its own."""
    flow: Workflow[Any] = Workflow(State.START, name="bad")
    flow.register(State.WORK, task(targets=[State.WORK, "nowhere"])(lambda store: None))

    found = problems(flow)

    assert found == [
        "the start state State.START has no task",
        "there is no exit state: a run could never end",
        "the state State.WORK declares the target 'nowhere', which has no task and is not an exit state",
        "the state State.WORK is unreachable from State.START",
    ]
    with pytest.raises(ValidationError, match=r"workflow 'bad' has 4 problem\(s\):\n  - the start state") as caught:
        flow.validate()
    assert str(caught.value).count("\n  - ") == 4


async def test_validation_runs_at_bind(kernel: Kernel) -> None:
    """No task of a wrong workflow runs."""
    ran: list[str] = []

    def run(store: Any) -> str:
        ran.append("a")
        return "a"

    flow = Workflow("a").register("a", run)

    with pytest.raises(ValidationError, match="no exit state"):
        await kernel.run(flow)
    assert ran == []


async def test_a_start_that_is_an_exit(kernel: Kernel) -> None:
    """Such a workflow is done before it begins: that is no problem, and no step."""
    result = await kernel.run(Workflow("end").add_exit_state("end"), {"kept": 1})

    assert (result.state, result.steps, result.data) == ("end", 0, {"kept": 1})


# drawing and hashing


def test_mermaid() -> None:
    """The drawing has every state with its task, every declared way, the start and the ends."""
    assert good().mermaid() == (
        "stateDiagram-v2\n"
        '    state "START<br/>to_work" as s0_START\n'
        '    state "WORK<br/>to_done" as s1_WORK\n'
        '    state "DONE" as s2_DONE\n'
        "    [*] --> s0_START\n"
        "    s0_START --> s1_WORK\n"
        "    s1_WORK --> s2_DONE\n"
        "    s2_DONE --> [*]\n"
    )


def test_mermaid_notes_what_it_does_not_know() -> None:
    """Undeclared targets are noted rather than guessed; odd names cannot break the drawing."""

    async def work(store: Any) -> str:
        return "end"

    flow = Workflow('say "hi"\nthere').register('say "hi"\nthere', work).add_exit_state("end")

    assert flow.mermaid() == (
        "stateDiagram-v2\n"
        '    state "say #quot;hi#quot; there<br/>work" as s0_say__hi__there\n'
        '    state "end" as s1_end\n'
        "    [*] --> s0_say__hi__there\n"
        "    s1_end --> [*]\n"
        "    note right of s0_say__hi__there : any state may follow\n"
    )


def test_no_name_steers_a_terminal_or_ends_a_line_of_a_drawing() -> None:
    """Control characters and marks of text direction are escaped; a line break is a space."""
    name = 'x\x1b[2J\r\nnote right of s0 : FORGED\u202e"'
    drawing = Workflow(name).add_exit_state(name).mermaid()

    assert all(sign.isprintable() or sign == "\n" for sign in drawing)
    assert not [line for line in drawing.splitlines() if line.strip().startswith("note")]


def test_mermaid_of_a_workflow_under_construction() -> None:
    """An incomplete workflow can be drawn, to see what is missing."""
    assert Workflow(State.START).mermaid() == ('stateDiagram-v2\n    state "START" as s0_START\n    [*] --> s0_START\n')
    lost = Workflow("a").register("a", task(targets=["nowhere", "a"])(end))
    assert lost.mermaid().splitlines()[1:] == [
        '    state "a<br/>end" as s0_a',
        "    [*] --> s0_a",
        "    s0_a --> s0_a",
    ]


def test_state_name() -> None:
    """An enum member is written by name, anything else as text."""
    assert (state_name(State.WORK), state_name("work"), state_name(3)) == ("WORK", "work", "3")


def test_fingerprint_is_stable() -> None:
    """The same definition has the same fingerprint, here and in a store of last year, in whatever order it was made."""
    other = Workflow(State.START, name="x", version="9", default_config=TaskConfig(timeout=1))
    other.add_exit_state(State.DONE).register(State.WORK, to_done, config=TaskConfig(timeout=2))
    other.register(State.START, to_work)
    expected = "start START; exit DONE; state START does to_work -> WORK; state WORK does to_done -> DONE"

    assert good().fingerprint() == expected
    assert other.fingerprint() == expected


def test_a_split_from_a_function() -> None:
    """Its name is readable in graphs; stored runs know it by the name that it had first."""
    flow = Workflow("a").register_split("a", lambda store: [end], JoinConfig(JoinStrategy.all(), "b"))

    assert 'state "a<br/>split all() of branches made at run time" as' in flow.mermaid()
    assert "state a does split all() of made at run time -> b" in flow.fingerprint()


async def end(store: Any) -> str:
    """One task."""
    return "end"


async def stop(store: Any) -> str:
    """Another task."""
    return "end"


@pytest.mark.parametrize(
    "change",
    [
        lambda flow: flow.add_exit_state("other"),
        lambda flow: flow.register("b", end),
        lambda flow: Workflow("b").register("a", task(targets=["a", "end"])(end)).add_exit_state("end"),
        lambda flow: Workflow("a").register("a", task(targets=["a", "end"])(stop)).add_exit_state("end"),
        lambda flow: Workflow("a").register("a", task(targets=["end"])(end)).add_exit_state("end"),
    ],
    ids=["exit", "state", "start", "task", "targets"],
)
def test_fingerprint_changes_with_the_definition(change: Any) -> None:
    """Another exit, state, start, task or target is another definition."""

    def flow() -> Workflow[str]:
        return Workflow("a").register("a", task(targets=["a", "end"])(end)).add_exit_state("end")

    assert change(flow()).fingerprint() != flow().fingerprint()


# running without a kernel of one's own


@dataclass
class Counter:
    """A store of the user's own."""

    count: int = 0


async def test_orchestrate_on_a_dict() -> None:
    """A dict is shown to the tasks as a `KeyValueStore`, and changed itself."""

    async def count(store: Any) -> State:
        store.put("count", store.get("count", int) + 1)
        store.append("log", "counted")
        return State.DONE

    data: dict[str, Any] = {"count": 1}
    flow = Workflow(State.START).register(State.START, to_work).register(State.WORK, count).add_exit_state(State.DONE)

    assert await flow.orchestrate(data) is State.DONE
    assert data == {"count": 2, "log": ["counted"]}


async def test_orchestrate_on_a_memory_store() -> None:
    """A `MemoryStore` is changed itself."""
    store = MemoryStore({"count": 1})

    async def count(view: Any) -> str:
        view["count"] += 1
        return "end"

    assert await Workflow("a").register("a", count).add_exit_state("end").orchestrate(store) == "end"
    assert store["count"] == 2


async def test_orchestrate_on_an_object() -> None:
    """Any other object is handed to the tasks as it is."""
    counter = Counter()

    async def count(store: Counter) -> str:
        assert store is counter
        store.count += 1
        return "a" if store.count < 3 else "end"

    assert await Workflow("a").register("a", count).add_exit_state("end").orchestrate(counter) == "end"
    assert counter.count == 3


async def test_orchestrate_raises_what_went_wrong() -> None:
    """A failing task is a `TaskError` with its own exception as cause, also the short way."""

    async def fail(store: Any) -> str:
        raise ValueError("broken")

    flow = Workflow("a").register("a", fail, config=TaskConfig.minimal()).add_exit_state("end")

    with pytest.raises(TaskError) as caught:
        await flow.orchestrate({})
    assert isinstance(caught.value.__cause__, ValueError)


async def test_orchestrate_validates() -> None:
    """A wrong definition is refused the short way too."""
    with pytest.raises(ValidationError):
        await Workflow("a").orchestrate({})


async def test_started_many_times_at_once() -> None:
    """A workflow holds no run: it can be started any number of times at once."""

    async def count(store: Any) -> str:
        await asyncio.sleep(0)
        store["count"] += 1
        return "a" if store["count"] < 5 else "end"

    flow = Workflow("a").register("a", count).add_exit_state("end")
    stores = [{"count": start} for start in range(5)]

    assert await asyncio.gather(*map(flow.orchestrate, stores)) == ["end"] * 5
    assert stores == [{"count": 5}] * 5


def test_orchestrate_sync() -> None:
    """Scripts need no event loop of their own; each call has a fresh one."""
    flow = good()
    data: dict[str, Any] = {}

    assert flow.orchestrate_sync(data) is State.DONE
    assert flow.orchestrate_sync(data) is State.DONE


def test_orchestrate_sync_with_threads() -> None:
    """Plain functions run in worker threads there too, in one loop after the other."""
    seen: list[bool] = []

    def work(store: Any) -> str:
        seen.append(threading.current_thread() is threading.main_thread())
        return "end"

    flow = Workflow("a").register("a", work).add_exit_state("end")

    assert [flow.orchestrate_sync({}) for _ in range(2)] == ["end", "end"]
    assert seen == [False, False]


async def test_orchestrate_sync_inside_a_loop_is_refused() -> None:
    """Inside a running loop it would block it: the message says what to write instead."""
    with pytest.raises(ConfigurationError, match="use `await flow"):
        good().orchestrate_sync({})


def test_orchestrate_sync_in_several_threads() -> None:
    """Every thread may run workflows, with the one default kernel."""
    flow = good()
    states: list[State] = []
    threads = [threading.Thread(target=lambda: states.append(flow.orchestrate_sync({}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert states == [State.DONE] * 4


def test_default_kernel_is_one() -> None:
    """`orchestrate` uses the one that `default_kernel` returns."""
    assert default_kernel() is default_kernel()
    assert isinstance(default_kernel(), Kernel)
