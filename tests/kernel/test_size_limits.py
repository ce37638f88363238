"""The limits of sizes: each can be set, and names itself and its value when it is met."""

from __future__ import annotations

from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    KeyValueStore,
    SizeLimitError,
    SizeLimits,
    SubWorkflow,
    Workflow,
    derived_id,
)

flow = Workflow("A", name="short").add_exit_state("B")


@flow.on("A")
async def first(store: KeyValueStore) -> str:
    """Do nothing."""
    return "B"


@pytest.mark.parametrize("name", ["ids", "names", "errors", "run", "signals"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "9", None])
def test_a_limit_is_a_positive_whole_number(name: str, value: Any) -> None:
    """Anything else is refused, by name."""
    with pytest.raises(ConfigurationError, match=name):
        SizeLimits(**{name: value})


def test_the_argument_is_checked() -> None:
    """A number in place of the limits is refused."""
    wrong: Any = 512
    with pytest.raises(ConfigurationError, match="limits must be a SizeLimits, or None, not 512"):
        Kernel(limits=wrong)


@pytest.mark.parametrize(("text", "allowed"), [("x" * 512, True), ("x" * 513, False), ("ä" * 257, False)])
def test_bytes_are_counted(text: str, allowed: bool) -> None:  # one row for each text
    """An id of 512 bytes is allowed; characters do not count."""
    if allowed:
        SizeLimits().check("ids", "the run id", text)
        return
    with pytest.raises(
        SizeLimitError, match=r"the run id, .*…, has 51\d bytes, more than SizeLimits.ids = 512"
    ) as caught:
        SizeLimits().check("ids", "the run id", text, "one")
    assert (caught.value.limit, caught.value.most, caught.value.run_id) == ("ids", 512, "one")
    assert caught.value.size == len(text.encode())
    assert len(str(caught.value)) < 250


async def test_ids_and_names_are_limited_at_every_door() -> None:
    """Runs, forks, signals, workflows, states and keys of a new run's data."""
    long = "x" * 600
    async with Kernel() as kernel:
        for call in (
            lambda: kernel.run(flow, run_id=long), lambda: kernel.start(flow, run_id=long),
            lambda: kernel.fork("one", 1, long), lambda: kernel.signal("one", "go", id=long),
        ):  # fmt: skip
            with pytest.raises(SizeLimitError, match=r"more than SizeLimits\.ids = 512; reduce it, or raise the limit"):
                await call()
        named = Workflow("A", name=long).add_exit_state("B").register("A", first)
        stated = Workflow("A", name="stated").add_exit_states(["B", long]).register("A", first)
        for call in (
            lambda: kernel.run(named), lambda: kernel.run(stated), lambda: kernel.run(flow, {long: 1}),
            lambda: kernel.signal("one", long),
        ):  # fmt: skip
            with pytest.raises(SizeLimitError, match=r"more than SizeLimits\.names = 512"):
                await call()
    async with Kernel(limits=SizeLimits(ids=600, names=600)) as kernel:
        assert (await kernel.run(named, {long: 1}, run_id=long)).run_id == long


def test_derived_ids_end_in_a_hash() -> None:
    """Short ids stay. Long ones differ if their texts do, also at the end or inside a character."""
    assert derived_id("x" * 512) == "x" * 512
    found = {derived_id(text) for text in ("x" * 513, "x" * 514, "x" * 600 + "/a", "x" * 600 + "/b", "ä" * 300)}
    assert len(found) == 5
    assert all(500 < len(each.encode()) <= 512 and each[-33] == "~" for each in found)


async def test_a_child_of_a_run_with_a_long_id_has_a_short_one() -> None:
    """It is the same id after a crash, so that the child is found again."""
    part = Workflow("A", name="part").add_exit_state("B").register("A", first)
    whole = Workflow("C", name="whole").add_exit_state("D").register("C", SubWorkflow(part, then="D"))
    async with Kernel(store="memory://?strict=1") as kernel:
        await kernel.run(whole, {}, run_id="x" * 512)
        (child,) = await kernel.runs(parent="x" * 512)
    assert child.run_id == derived_id("x" * 512 + ":1/part")
    assert len(child.run_id) == 512


def test_errors_are_cut_with_a_mark() -> None:
    """The rest is counted."""
    assert SizeLimits(errors=3).cut("abc") == "abc"
    assert SizeLimits(errors=3).cut("abcdef") == "abc… (3 more characters)"
