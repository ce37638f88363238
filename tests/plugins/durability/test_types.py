"""What a run may store: only types that its workflow names, whatever else the kernel has met."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec
import pytest
from cano import (
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Key,
    RunStatus,
    SerializationError,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    wait_for,
)
from cano_durability.keeper import Keeper

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

T = TypeVar("T")


@dataclass
class Animal:
    name: str = "Rex"


@dataclass
class Dog(Animal):
    """Nothing names it but the tests that do."""


@dataclass
class Box(Generic[T]):
    items: list[T] = field(default_factory=list)


class Colour(Enum):
    RED = 1


class Pair(NamedTuple):
    one: int = 1


class Struct(msgspec.Struct):
    one: int = 1


NAMES = "is not registered, so another process could not decode it; name it in Workflow(types=[{}])"


def putting(value: Any, types: Any = (), name: str = "puts") -> Workflow[str]:
    """A workflow whose second state puts `value` at "pet"."""
    flow = Workflow("FIRST", name=name, default_config=TaskConfig.minimal(), types=types).add_exit_state("END")

    @flow.on("FIRST")
    async def first(store: Any) -> str:
        store["first"] = True
        return "PUT"

    @flow.on("PUT")
    async def put(store: Any) -> str:
        store["pet"] = value
        return "END"

    return flow


def lenient(kernel: Kernel) -> Kernel:
    """The same kernel, as on a store that is not strict."""
    assert isinstance(kernel.keeper, Keeper)
    kernel.keeper.stored.values.strict = False
    return kernel


VALUES = [
    (Dog(), "Dog"),
    ([{"pet": (Dog(),)}], "Dog"),
    ({"pets": {Colour.RED}}, "Colour"),
    (Box([Dog()]), "Box"),
    (Pair(), "Pair"),
    (Struct(), "Struct"),
]


@pytest.mark.parametrize(("value", "name"), VALUES, ids=[f"{name} {n}" for n, (_, name) in enumerate(VALUES)])
async def test_the_commit_refuses_a_class_that_nothing_names(world: World, value: Any, name: str) -> None:
    """The error names run, key, type and remedy. The run has failed, and continues once its workflow names the type."""
    kernel = lenient(await world.kernel())
    with pytest.raises(SerializationError) as caught:
        await kernel.run(putting(value), run_id="r")
    assert (caught.value.run_id, caught.value.key, caught.value.actual.__name__) == ("r", "pet", name)
    assert str(caught.value).startswith("run r, key 'pet': cannot encode ")
    assert NAMES.format(name) in str(caught.value)
    record = await world.look("r")
    assert (record.status, record.state) == (RunStatus.FAILED, "PUT")
    other = await world.kernel()
    result = await other.resume(putting(value, [Dog, Box, Colour, Pair, Struct]), "r")
    assert result.data == {"first": True, "pet": value}


async def test_put_refuses_it_in_a_strict_store(kernel: Kernel) -> None:
    """The task hears of it at once."""
    with pytest.raises(TaskError) as caught:
        await kernel.run(putting(Dog()), run_id="r")
    assert NAMES.format("Dog") in str(caught.value.__cause__)
    with pytest.raises(TaskError, match="Dog"):
        await (await kernel.start(putting(Dog()), keep=False)).result()
    assert (await (await kernel.start(putting(Dog(), [Dog]), keep=False)).result()).data["pet"] == Dog()


@pytest.mark.parametrize("strict", [True, False])
async def test_another_workflow_of_the_kernel_does_not_help(world: World, strict: bool) -> None:
    """A process that has only the one workflow could not read what the other one names."""
    kernel = await world.kernel()
    kernel = kernel if strict else lenient(kernel)
    named = putting(Dog(), [Dog], "named")
    assert (await kernel.run(named, run_id="named")).data["pet"] == Dog()
    with pytest.raises((SerializationError, TaskError)) as caught:
        await kernel.run(putting(Dog()), run_id="r")
    assert "types=[Dog]" in str(caught.value)


async def test_a_subclass_is_named_by_itself(kernel: Kernel) -> None:
    """The annotation of its base class does not name it, for another process may not have imported it."""
    with pytest.raises(TaskError, match=r"types=\[Dog\]"):
        await kernel.run(putting(Dog(), [Animal]), run_id="r")
    assert (await kernel.run(putting(Animal(), [Animal], "base"), run_id="b")).data["pet"] == Animal()


async def test_generics_and_keys_name_classes(kernel: Kernel) -> None:
    """A generic alias names the classes in it; a `Key` names its own."""
    flow = putting([Box([Dog()])], [dict[str, list[Box[Dog]]]])
    assert (await kernel.run(flow, run_id="r")).data["pet"] == [Box([Dog()])]
    pet = Key("pet", Dog)
    keyed = Workflow("PUT", name="keyed").add_exit_state("END")

    @keyed.on("PUT")
    async def put(store: Any) -> str:
        store[pet] = Dog()
        return "END"

    assert (await kernel.run(keyed, run_id="k")).data == {"pet": Dog()}


async def test_data_of_a_new_run(kernel: Kernel, world: World) -> None:
    """The caller hears that its data cannot be stored, and there is no run."""
    with pytest.raises(SerializationError, match=r"run r, key 'pet': cannot encode the value: .*types=\[Dog\]"):
        await kernel.run(putting(1), {"pet": Dog()}, run_id="r")
    assert await world.find("r") is None


async def test_local_classes_of_one_name(kernel: Kernel) -> None:
    """Two workflows made by one function have classes of one name: each run has those of its own workflow."""

    def made(name: str) -> tuple[Workflow[str], type]:
        @dataclass
        class Local:
            by: str = name

        return putting(Local(), [Local], name), Local

    (one, first), (two, second) = made("one"), made("two")
    results = [await kernel.run(flow, run_id=flow.name) for flow in (one, two)]
    again = [await kernel.run(flow, run_id=flow.name + " again") for flow in (one, two)]
    assert [type(result.data["pet"]) for result in (*results, *again)] == [first, second, first, second]


# what comes from elsewhere


def waiting(types: Any = ()) -> Workflow[str]:
    """A workflow that waits for a signal."""
    flow = Workflow("ASK", name="waits", types=types).add_exit_state("END")

    @flow.on("ASK")
    async def ask(store: Any) -> str:
        return wait_for("go", then="THEN")

    @flow.on("THEN")
    async def then(store: Any) -> str:
        store["pet"] = current_step().payload
        return "END"

    return flow


async def test_payloads(kernel: Kernel, world: World) -> None:
    """The sender hears that the run could not read the payload; a sender that only bound the workflow can send it."""
    handle = await kernel.start(waiting(), run_id="r")
    await world.settle()
    with pytest.raises(SerializationError, match=r"run r, the payload of signal 'go': .*types=\[Dog\]"):
        await kernel.signal("r", "go", Dog())
    await kernel.signal("r", "go", {"plain": (1,)})
    assert (await handle.result()).data == {"pet": {"plain": (1,)}}

    await kernel.start(waiting([Dog]), run_id="s")
    await world.settle()
    await world.crash(kernel)
    sender = await world.kernel()
    await sender.run(putting(Dog(), [Dog]), run_id="other")  # which tells nothing about `waits`
    with pytest.raises(SerializationError, match=r"signal 'go', whose workflow 'waits' .* kernel.bind\(flow\)"):
        await sender.signal("s", "go", Dog())
    flow = waiting([Dog])
    sender.bind(flow)
    await sender.signal("s", "go", Dog())
    assert (await (await world.kernel()).run(flow, run_id="s")).data == {"pet": Dog()}


async def test_children(kernel: Kernel) -> None:
    """A child's data is its own workflow's, since any process may continue the child; a parent knows its children's."""
    child = putting(Dog(), [Dog], "child")
    parent = Workflow("RUN", name="parent", default_config=TaskConfig.minimal()).add_exit_state("END")
    parent.register("RUN", SubWorkflow(child, {}, {"pet": "pet"}, then="END"))
    assert (await kernel.run(parent, run_id="p")).data == {"pet": Dog()}

    narrow = putting(1, (), "narrow")
    giving = Workflow("RUN", name="giving", default_config=TaskConfig.minimal(), types=[Dog]).add_exit_state("END")
    giving.register("RUN", SubWorkflow(narrow, {"pet": "given"}, {}, then="END"))
    with pytest.raises(TaskError) as caught:
        await kernel.run(giving, {"pet": Dog()}, run_id="g")
    assert "key 'given': cannot encode " in str(caught.value.__cause__)


async def test_results_of_branches(kernel: Kernel) -> None:
    """A finished branch is stored: the one whose result cannot be has failed, and says so."""

    async def fetch(store: Any) -> Any:
        return {"best": [Dog()]}

    def flow(types: Any) -> Workflow[str]:
        made = Workflow("SPLIT", name="splits", default_config=TaskConfig.minimal(), types=types)
        return made.register_split("SPLIT", [fetch], JoinConfig(JoinStrategy.all(), "END")).add_exit_state("END")

    with pytest.raises(JoinError) as caught:
        await kernel.run(flow(()), run_id="r")
    assert "run r, branch 1 0:fetch: cannot encode [0].best[0] in the value: the class" in str(caught.value)
    assert NAMES.format("Dog") in str(caught.value)
    await kernel.resume(flow([Dog]), "r")


async def test_what_an_earlier_version_stored_is_read(kernel: Kernel, world: World) -> None:
    """It stored in a run whatever another workflow of the process names: as long as one does, the run continues."""
    plan = kernel.bind(putting(Dog(), [Dog], "named"))
    assert isinstance(kernel.keeper, Keeper)
    stored = kernel.keeper.stored
    assert stored.register(plan).strict
    record = await stored.new_record(kernel.bind(putting(1)), kernel.keeper.view({}, plan), "r", None, None)
    pet = stored.register(plan).encode("pet", [Dog()])
    assert await stored.create(record._replace(data={"old": pet}, holder=None, expires=None)) is None
    result = await kernel.run(putting(1), run_id="r")
    assert result.data == {"old": [Dog()], "first": True, "pet": 1}
