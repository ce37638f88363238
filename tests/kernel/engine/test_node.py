"""`Node`: its three phases by themselves and in a workflow. How they are attempted is in test_attempts.py."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from cano import Kernel, Node, NodeError, TaskConfig, TaskError, ValidationError, Workflow, current_step, edges


class Shout(Node[str, str, str]):
    """Puts a word in capitals, and notes what was called with what."""

    def __init__(self, config: TaskConfig | None = None) -> None:
        super().__init__(config)
        self.calls: list[tuple[Any, ...]] = []

    async def prep(self, store: Any) -> str:
        """Read the word."""
        self.calls.append(("prep", store))
        word: str = store["word"]
        return word

    async def exec(self, prepared: str) -> str:
        """Shout."""
        self.calls.append(("exec", prepared))
        return prepared.upper()

    async def post(self, store: Any, prepared: str, result: str) -> str:
        """Keep it."""
        self.calls.append(("post", store, prepared, result))
        store["shout"] = result
        return "end"


def flow_of(node: Node[str, Any, Any]) -> Workflow[str]:
    """A workflow of one node."""
    return Workflow("start").register("start", node).add_exit_state("end")


async def test_three_phases_in_order(kernel: Kernel) -> None:
    """`prep` reads the store, `exec` gets what it returned and no store, `post` gets all of it."""
    node = Shout()

    result = await kernel.run(flow_of(node), {"word": "hey"})

    assert result.state == "end"
    assert result.data == {"word": "hey", "shout": "HEY"}
    assert [call[0] for call in node.calls] == ["prep", "exec", "post"]
    assert node.calls[1] == ("exec", "hey")
    assert node.calls[2][1] is node.calls[0][1]
    assert node.calls[2][2:] == ("hey", "HEY")


async def test_by_hand_it_runs_the_same_phases() -> None:
    """`run` outside a workflow goes through all three phases once."""
    node, store = Shout(), {"word": "hey"}

    assert await node.run(store) == "end"
    assert store == {"word": "hey", "shout": "HEY"}
    assert node.calls == [("prep", store), ("exec", "hey"), ("post", store, "hey", "HEY")]


async def test_values_pass_between_phases_as_they_are(kernel: Kernel) -> None:
    """What a phase returns is handed to the next one as the same object."""
    prepared, result = object(), object()

    class Passes(Node[str, object, object]):
        async def prep(self, store: Any) -> object:
            return prepared

        async def exec(self, given: object) -> object:
            assert given is prepared
            return result

        async def post(self, store: Any, given: object, got: object) -> str:
            store["same"] = (given is prepared, got is result)
            return "end"

    assert (await kernel.run(flow_of(Passes()))).data == {"same": (True, True)}


@pytest.mark.parametrize("missing", ["prep", "exec", "post"])
def test_all_three_phases_are_needed(missing: str) -> None:
    """A node without one of its phases cannot be made."""
    methods = {name: getattr(Shout, name) for name in ("prep", "exec", "post") if name != missing}
    incomplete: Any = type("Incomplete", (Node,), methods)

    with pytest.raises(TypeError, match=missing):
        incomplete()


async def test_step_tells_the_phase(kernel: Kernel) -> None:
    """`current_step().phase` is the running phase."""
    seen: list[str | None] = []

    class Looks(Node[str, None, None]):
        async def prep(self, store: Any) -> None:
            seen.append(current_step().phase)

        async def exec(self, prepared: None) -> None:
            seen.append(current_step().phase)

        async def post(self, store: Any, prepared: None, result: None) -> str:
            seen.append(current_step().phase)
            return "end"

    await kernel.run(flow_of(Looks()))

    assert seen == ["prep", "exec", "post"]


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
async def test_error_names_the_phase(kernel: Kernel, phase: str) -> None:
    """A node that fails raises `NodeError`: it knows the phase, and its cause is the user's exception itself."""
    node, problem = Shout(), ValueError("broken")

    async def fail(*args: Any) -> Any:
        raise problem

    setattr(node, phase, fail)
    with pytest.raises(NodeError, match=f"'Shout' failed in {phase}: ValueError: broken") as caught:
        await kernel.run(flow_of(node), {"word": "hey"})
    error = caught.value

    assert isinstance(error, TaskError)
    assert error.phase == phase
    assert error.__cause__ is problem
    assert (error.workflow, error.state, error.attempt) == ("workflow", "start", 1)


@pytest.mark.parametrize("phase", ["prep", "exec", "post", "exec_fallback"])
def test_a_phase_that_is_not_async_is_a_problem(phase: str) -> None:
    """A forgotten `async` is found by `validate`, not by a confusing error at run time."""
    node = type("Forgot", (Shout,), {phase: lambda self, *args: None})()

    with pytest.raises(ValidationError) as caught:
        flow_of(node).validate()
    assert caught.value.problems == (f"the state start: Forgot.{phase} must be `async def`",)


async def test_fallback_by_hand() -> None:
    """`run` by hand asks the fallback too, and goes on with what it returns."""
    seen: list[tuple[str, Exception]] = []
    problem = ValueError("broken")

    class Falls(Shout):
        async def exec(self, prepared: str) -> str:
            raise problem

        async def exec_fallback(self, prepared: str, error: Exception) -> str:
            seen.append((prepared, error))
            return "instead"

    store = {"word": "hey"}

    assert await Falls().run(store) == "end"
    assert store["shout"] == "instead"
    assert seen == [("hey", problem)]


async def test_default_fallback_raises_the_error_itself() -> None:
    """Without a fallback of its own a node fails with what `exec` raised."""
    problem = ValueError("broken")

    with pytest.raises(ValueError, match="broken") as caught:
        await Shout().exec_fallback("hey", problem)
    assert caught.value is problem


async def test_a_node_with_its_own_run_is_a_plain_task(kernel: Kernel) -> None:
    """Who overrides `run` says himself what the phases are; the error then is a `TaskError` without a phase."""
    phases: list[str | None] = []

    class Own(Shout):
        async def run(self, store: Any) -> str:
            phases.append(current_step().phase)
            raise ValueError("mine")

    with pytest.raises(TaskError) as caught:
        await kernel.run(flow_of(Own()), {"word": "hey"})
    assert not isinstance(caught.value, NodeError)
    assert phases == [None]


def test_targets_come_from_post() -> None:
    """The states that a node may lead to are read from the return annotation of `post`."""

    class Picks(Shout):
        async def post(self, store: Any, prepared: str, result: str) -> Literal["end", "start"]:
            return "end"

    assert list(edges(flow_of(Picks()))) == [("start", "end"), ("start", "start")]


def test_targets_come_from_run_where_that_is_overridden() -> None:
    """A node with its own `run` declares what that one says."""

    class Picks(Shout):
        async def run(self, store: Any) -> Literal["end"]:
            return "end"

        async def post(self, store: Any, prepared: str, result: str) -> Literal["start"]:
            return "start"

    assert list(edges(flow_of(Picks()))) == [("start", "end")]


async def test_one_node_in_many_runs_at_once(kernel: Kernel) -> None:
    """What a phase returns belongs to its own run, however many runs share the node."""

    class Slow(Shout):
        async def exec(self, prepared: str) -> str:
            await asyncio.sleep(0)
            return prepared.upper()

    flow = flow_of(Slow())

    results = await asyncio.gather(*(kernel.run(flow, {"word": word}) for word in "abc"))

    assert [result.data["shout"] for result in results] == ["A", "B", "C"]
