"""The pictures: what they show of a workflow and of a run, and that no name can do harm in them."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import pairwise
from typing import Any, Literal
from xml.etree import ElementTree

import pytest
from cano import (
    ConfigurationError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    SubWorkflow,
    TaskConfig,
    Workflow,
    task,
    wait_for,
)
from cano_drawing import Arrow, Machine, State, machine_of, picture_of
from cano_drawing.picture import MOST, NEAR
from cano_drawing.style import COLORS
from hypothesis import given
from hypothesis import strategies as st

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    """The picture as XML."""
    return ElementTree.fromstring(svg)


def states(svg: str) -> dict[str, ElementTree.Element]:
    """The groups of the states, by name."""
    return {group.get("data-state", ""): group for group in parsed(svg).iter(f"{SVG}g") if group.get("data-state")}


def texts(group: ElementTree.Element) -> list[str]:
    """The texts of a group, but not its title."""
    return [text.text or "" for text in group.iter(f"{SVG}text")]


def arrows(svg: str) -> dict[tuple[str, str], str]:
    """The classes of the arrows, by the names of both states."""
    groups = [group for group in parsed(svg).iter(f"{SVG}g") if group.get("data-from") is not None]
    return {(group.get("data-from", ""), group.get("data-to", "")): group.get("class", "") for group in groups}


async def first_of_all(store: KeyValueStore) -> Any:
    """A branch."""


def loan() -> Workflow[str]:
    """A workflow with everything that a picture shows."""
    inner = Workflow("look", name="check").add_exit_states(["fine", "odd"])

    @inner.on("look")
    async def look(store: KeyValueStore) -> Literal["fine", "odd"]:
        return "fine"

    flow = Workflow("begin", name="loan").add_exit_states(["paid", "refused"])

    @flow.on("begin")
    async def begin(store: KeyValueStore) -> Literal["begin", "checked"]:
        again = store.get("again", int, default=0)
        store["again"] = again + 1
        return "begin" if again < 2 else "checked"

    flow.register("checked", SubWorkflow(inner, then={"fine": "scored", "odd": "refused"}))
    branches = [first_of_all] * 9
    flow.register_split("scored", branches, JoinConfig(JoinStrategy.all(), "asked"))

    @flow.on("asked", config=TaskConfig(on_exhausted="refused"))
    async def asked(store: KeyValueStore) -> Literal["decided"]:
        return wait_for("decision", then="decided")

    @flow.on("decided")
    async def decided(store: KeyValueStore):  # type: ignore[no-untyped-def]  # its next states are not declared
        return "paid"

    return flow


def test_a_workflow() -> None:
    """Each state has a box with its name and its task, an exit two borders; each transition is one arrow."""
    svg = loan().svg()
    boxes = states(svg)
    assert list(boxes) == ["begin", "checked", "look", "fine", "odd", "scored", "asked", "decided", "paid", "refused"]
    assert texts(boxes["begin"]) == ["begin", "begin"]
    assert texts(boxes["scored"]) == ["scored", "split all() of 9", *["first_of_all"] * 6, "and 3 more"]
    assert texts(boxes["decided"]) == ["decided", "decided", "any state may follow"]
    assert {name for name, box in boxes.items() if "exit" in box.get("class", "")} == {"fine", "odd", "paid", "refused"}
    assert set(arrows(svg)) == {
        ("begin", "begin"), ("begin", "checked"), ("checked", "scored"), ("checked", "refused"), ("scored", "asked"),
        ("asked", "decided"), ("asked", "refused"), ("look", "fine"), ("look", "odd"),
    }  # fmt: skip
    assert [pair for pair, classes in arrows(svg).items() if "fallback" in classes] == [("asked", "refused")]


def test_the_names_of_branches() -> None:
    """A branch is named as in a run: a partial by its function, another callable by its class."""

    class Scorer:
        async def __call__(self, store: KeyValueStore) -> None: ...

    flow = Workflow("scored", name="names").add_exit_state("end")
    branches: list[Any] = [partial(first_of_all), Scorer(), task(lambda store: None)]
    flow.register_split("scored", branches, JoinConfig(JoinStrategy.all(), "end"))
    assert machine_of(flow).states[0].branches == ["first_of_all", "Scorer", "<lambda>"]


def test_an_invalid_workflow() -> None:
    """A state without a task is marked."""
    flow = Workflow("a", name="broken").register("a", task(lambda store: "b"), config=TaskConfig(on_exhausted="b"))
    (box,) = [box for box in states(flow.svg()).values() if "undefined" in box.get("class", "")]
    assert texts(box) == ["b", "no task"]


async def test_a_run() -> None:
    """Its way, visits and wait are drawn; no box moves while it goes on, and the picture of its end says so."""
    flow = loan()
    async with Kernel(store="memory://?strict=1") as kernel:
        handle = await kernel.start(flow, {}, run_id="one")
        await anext(event async for event in handle.events() if event.kind == "wait")
        parked = flow.svg(await kernel.get("one"), await kernel.history("one"))
        await kernel.signal("one", "decision")
        await handle.result()
        ended = flow.svg(await kernel.get("one"), await kernel.history("one"))
    before, after = ([group.get("transform") for group in parsed(svg).iter(f"{SVG}g")] for svg in (parked, ended))
    assert before == after

    assert "parked" in parsed(parked).get("class", "").split()
    boxes = states(parked)
    assert [name for name, box in boxes.items() if "current" in box.get("class", "")] == ["decided"]
    assert texts(boxes["decided"])[-1] == "waits: decision"
    assert texts(boxes["begin"])[-1].startswith("3 visits, ")
    taken = {pair for pair, classes in arrows(parked).items() if "taken" in classes}
    assert taken == {
        ("begin", "begin"), ("begin", "checked"), ("checked", "scored"), ("scored", "asked"), ("asked", "decided"),
    }  # fmt: skip

    assert "succeeded" in parsed(ended).get("class", "").split()
    assert [name for name, box in states(ended).items() if "current" in box.get("class", "")] == ["paid"]


async def test_a_failed_run() -> None:
    """The state in which it failed says so."""
    flow = Workflow("a", name="fails").add_exit_state("end")

    @flow.on("a")
    async def fails(store: KeyValueStore) -> str:
        raise ValueError("division")

    async with Kernel(store="memory://?strict=1") as kernel:
        handle = await kernel.start(flow, {}, run_id="one")
        with pytest.raises(Exception, match="division"):
            await handle.result()
        svg = flow.svg(await kernel.get("one"), await kernel.history("one"))
    assert texts(states(svg)["a"])[-1] == "failed"


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6, unique=True), st.text(max_size=40))
def test_no_name_does_harm(names: list[str], task: str) -> None:
    """Names are texts in the XML, whatever they contain: no element, no attribute, no script."""
    made = [State(name, task, branches=[task]) for name in names]
    svg = picture_of(Machine(task, made, [Arrow(name, names[0], fallback=True) for name in names]))
    tags = {element.tag.removeprefix(SVG) for element in parsed(svg).iter()}
    assert tags <= {"svg", "title", "style", "g", "text", "rect", "circle", "path", "polygon"}
    assert not any(name.startswith("on") for element in parsed(svg).iter() for name in element.attrib)


def test_hostile_names() -> None:
    """Markup in a name is shown as text, and control characters are escaped."""
    name = "<script>alert('1')</script>\"'&\x1b[31m"
    svg = picture_of(Machine(name, [State(name, "]]>")], []))
    assert "<script" not in svg
    assert "\x1b" not in svg
    assert texts(parsed(svg))[0].startswith("<script>alert('1')")


def test_a_large_workflow() -> None:
    """Of more than 150 states, the part around one is drawn, and the picture says how many are left out."""
    names = [f"s{number}" for number in range(MOST + 1)]
    machine = Machine("long", [State(name, "t") for name in names], [Arrow(*pair) for pair in pairwise(names)])
    svg = picture_of(machine)
    assert list(states(svg)) == names[:NEAR]
    assert f"{MOST + 1 - NEAR} more states further away" in svg
    around = states(picture_of(machine, around="s100"))
    assert "s100" in around
    assert len(around) == NEAR
    assert [('class="start"' in picture_of(machine, around=name)) for name in ("s3", "s100")] == [True, False]
    assert len(states(picture_of(Machine("small", machine.states[:MOST], [])))) == MOST
    with pytest.raises(ConfigurationError, match="has no state 's999'"):
        picture_of(machine, around="s999")


def test_workflows_in_workflows_end() -> None:
    """Workflows are drawn two deep; a deeper one is named by its state's task."""
    flow = Workflow("x", name="w0").add_exit_state("end").register("x", task(lambda store: "end"))
    for depth in range(1, 5):
        flow = Workflow("x", name=f"w{depth}").add_exit_state("end").register("x", SubWorkflow(flow, then="end"))
    inner = machine_of(flow).states[0].inner
    assert inner is not None
    assert inner.states[0].inner is not None
    assert inner.states[0].inner.states[0].inner is None


def test_what_is_written_can_be_read() -> None:
    """Each color of a text has a contrast of at least 4.5 to both kinds of boxes, light and dark (WCAG AA)."""

    def light(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for index in (0, 1):
        for text in ("ink", "soft", "taken", "good", "bad", "wait"):
            for box in ("box", "inner"):
                low, high = sorted((light(COLORS[text][index]), light(COLORS[box][index])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (text, box, index)


def test_notebooks() -> None:
    """A notebook gets the picture; without the plugin the Mermaid text, and `svg` says what to install."""
    bundle = loan()._repr_mimebundle_()
    assert set(bundle) == {"image/svg+xml", "text/plain"}
    code = (
        "from cano import *\n"
        "flow = Workflow('a', name='w').add_exit_state('a')\n"
        "assert flow._repr_mimebundle_() == {'text/plain': flow.mermaid()}\n"
        "try: flow.svg()\n"
        "except ConfigurationError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"CANO_BLOCK": "drawing"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("no plugin draws workflows: 'drawing' is blocked")
