"""Resuming under another definition: refused with a readable difference, unless the workflow says how to go on."""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    RunRecord,
    RunResult,
    RunStatus,
    Task,
    VersionMismatchError,
    Workflow,
    current_step,
    wait_for,
)
from cano_durability.migration import landing_state

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Program:
    """A program that is changed while its runs are under way. It notes the states that it goes through."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def flow(self, *states: str, **options: Any) -> Workflow[str]:
        """States one after the other; one named "wait" waits for the signal "go"."""
        flow = Workflow(states[0], name="flow", **options)
        for state, following in itertools.pairwise(states):

            async def task(store: Any, following: str = following) -> Any:
                self.did.append(current_step().state)
                return wait_for("go", then=following) if current_step().state == "wait" else following

            task.__name__ = f"do_{state}"
            flow.register(state, task)
        return flow.add_exit_state(states[-1])

    async def stop(self, kernel: Kernel, flow: Workflow[str], world: World, at: int) -> None:
        """Start a run, and let its process die before the step with number `at` is committed."""
        fault = world.faults(kernel).at_call("commit", at).hang()
        await kernel.start(flow, run_id="r")
        await fault.reached()
        await world.crash(kernel)
        await world.lapse()
        self.did.clear()


@pytest.fixture
def program() -> Program:
    """A program."""
    return Program()


async def refusal(world: World, flow: Workflow[str]) -> VersionMismatchError:
    """How a resume under `flow` is refused, in every way of asking for it; the run is as it was."""
    before = await world.look("r")
    kernel = await world.kernel()
    with pytest.raises(VersionMismatchError) as started:
        await kernel.run(flow, run_id="r")
    with pytest.raises(VersionMismatchError) as caught:
        await kernel.resume(flow, "r")
    assert str(started.value) == str(caught.value)
    assert await kernel.recover(flow) == []
    assert await world.look("r") == before
    assert (caught.value.run_id, caught.value.workflow) == ("r", "flow")
    return caught.value


async def test_a_renamed_state(kernel: Kernel, world: World, program: Program) -> None:
    """The difference names the old state and the new one, and the remedy."""
    await program.stop(kernel, program.flow("a", "b", "end"), world, at=2)
    error = await refusal(world, program.flow("a", "beta", "end"))
    assert error.differences == (
        "it had: state b does do_b",
        "there is now: state beta does do_beta",
        "the run is in state b, which no longer exists",
    )
    assert error.state == "b"
    assert str(error) == (
        "run r was begun under another definition of workflow 'flow':"
        "\n  - it had: state b does do_b"
        "\n  - there is now: state beta does do_beta"
        "\n  - the run is in state b, which no longer exists"
        "\nFinish it with the old program, or define Workflow(migrate={'b': …}); "
        "if that is refused, add migrate_from=['1'], which accepts all differences; "
        "or give this workflow another name, if the run belongs to another workflow"
    )
    assert program.did == []


async def test_a_removed_state(kernel: Kernel, world: World, program: Program) -> None:
    """A run is refused too that stands in a state which is still there."""
    await program.stop(kernel, program.flow("a", "b", "c", "end"), world, at=2)
    error = await refusal(world, program.flow("a", "b", "end"))
    assert error.differences == ("it had: state c does do_c",)


async def test_another_version(kernel: Kernel, world: World, program: Program) -> None:
    """The version says that a change matters though the definition looks the same."""
    await program.stop(kernel, program.flow("a", "b", "end"), world, at=2)
    error = await refusal(world, program.flow("a", "b", "end", version="2"))
    assert error.differences == ("its version was '1', this one is '2'",)


async def test_recovering_says_so(
    kernel: Kernel, world: World, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """`recover` reports the run once, and leaves it as it is."""
    await program.stop(kernel, program.flow("a", "b", "end"), world, at=2)
    other = await world.kernel()
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        await other.recover(program.flow("a", "b", "end", version="2"))
        await world.clock.advance(10)
    assert [record.getMessage() for record in caplog.records] == [
        "run r cannot continue: run r was begun under another definition of workflow 'flow':\n"
        "  - its version was '1', this one is '2'\n"
        "Finish it with the old program, or define Workflow(migrate={}, migrate_from=['1']), which accepts all "
        "differences; or give this workflow another name, if the run belongs to another workflow"
    ]


async def test_a_line_break_in_a_name(kernel: Kernel, world: World, program: Program) -> None:
    """A line break in the name of a state is escaped: it does not begin a line of the message."""
    await program.stop(kernel, program.flow("a", "b\n  - forged", "end"), world, at=2)
    error = await refusal(world, program.flow("a", "c", "end"))
    assert any("\n" in difference for difference in error.differences)
    assert len(str(error).splitlines()) == len(error.differences) + 2


async def test_a_parked_run(kernel: Kernel, world: World, program: Program) -> None:
    """A run that waits is refused as well, also when its signal comes; the signal is kept for the right program."""
    await (await kernel.start(program.flow("wait", "b", "end"), run_id="r"))._run.ended()
    await world.crash(kernel)
    other = await world.kernel()
    changed = program.flow("wait", "b", "end", version="2")
    with pytest.raises(VersionMismatchError):
        await other.run(changed, run_id="r")
    await other.signal("r", "go")
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    assert (await (await world.kernel()).run(program.flow("wait", "b", "end"), run_id="r")).state == "end"


async def test_migrating(kernel: Kernel, world: World, program: Program) -> None:
    """`migrate` says where runs of old states go on."""
    await program.stop(kernel, program.flow("a", "b", "end"), world, at=2)
    flow = program.flow("a", "beta", "gamma", "end", version="2", migrate={"b": "beta"}, migrate_from=["1"])
    other = await world.kernel()
    assert await other.run(flow, run_id="r") == RunResult("r", "end", {}, 3)
    assert program.did == ["beta", "gamma"]
    assert [(line.seq, line.state) for line in await other.history("r")] == [
        (0, "a"), (1, "b"), (2, "gamma"), (3, "end"),
    ]  # fmt: skip


async def test_an_empty_migration(kernel: Kernel, world: World, program: Program) -> None:
    """An empty `migrate` lets every run of the given versions go on whose state still exists, and no other."""
    await program.stop(kernel, program.flow("a", "b", "c", "end"), world, at=2)
    error = await refusal(world, program.flow("a", "c", "end", migrate={}, migrate_from=["1"]))
    assert "the run is in state b, which no longer exists" in error.differences
    flow = program.flow("a", "b", "end", migrate={}, migrate_from=["0", "1"])
    assert (await (await world.kernel()).run(flow, run_id="r")).state == "end"
    assert program.did == ["b"]


async def test_migrating_to_the_end(kernel: Kernel, world: World, program: Program) -> None:
    """An old state may be migrated to an exit state: the run has succeeded with that, in the store too."""
    await program.stop(kernel, program.flow("a", "b", "end"), world, at=2)
    flow = program.flow("a", "end", migrate={"b": "end"})
    assert await (await world.kernel()).run(flow, run_id="r") == RunResult("r", "end", {}, 1)
    assert (await world.look("r")).status is RunStatus.SUCCEEDED
    assert program.did == []


async def test_a_run_migrates_once(kernel: Kernel, world: World, program: Program) -> None:
    """A run that has migrated belongs to the new definition: a crash after that does not migrate it again."""
    await program.stop(kernel, program.flow("a", "b", "end"), world, at=2)
    # the names have moved on by one: what was b is c now, and what was c is d
    flow = program.flow("a", "b", "c", "d", "end", version="2", migrate={"b": "c", "c": "d"}, migrate_from=["1"])
    # it dies right after the migration, and then after the takeover, before its first step is committed
    for call, after in ((1, True), (2, False)):
        between = await world.kernel()
        fault = world.faults(between).at_call("commit", call, after=after).hang()
        starting = asyncio.ensure_future(between.start(flow, run_id="r"))
        await fault.reached()
        await world.crash(between)
        fault.release()
        await asyncio.gather(starting, return_exceptions=True)
        await world.lapse()
    result = await (await world.kernel()).run(flow, run_id="r")
    assert program.did == ["c", "c", "d"]
    assert result.steps == 3


async def test_after_a_migration_no_migration_is_needed(kernel: Kernel, world: World, program: Program) -> None:
    """A run that has migrated goes on under the new definition also when that says nothing of old ones any more."""
    await program.stop(kernel, program.flow("a", "b", "c", "end"), world, at=2)
    between = await world.kernel()
    migrating = program.flow("a", "beta", "c", "end", version="2", migrate={"b": "beta"}, migrate_from=["1"])
    fault = world.faults(between).at_call("commit", 3).hang()  # the migration, beta, and then c
    await between.start(migrating, run_id="r")
    await fault.reached()
    await world.crash(between)
    await world.lapse()
    program.did.clear()
    assert (await (await world.kernel()).run(program.flow("a", "beta", "c", "end", version="2"), run_id="r")).steps == 3
    assert program.did == ["c"]


async def test_a_migration_is_for_old_runs_only(kernel: Kernel, world: World, program: Program) -> None:
    """A run of the new definition goes on where it stands, though `migrate` names its state."""
    flow = program.flow("a", "b", "c", "end", version="2", migrate={"b": "c"}, migrate_from=["1"])
    await program.stop(kernel, flow, world, at=2)
    assert (await (await world.kernel()).run(flow, run_id="r")).state == "end"
    assert program.did == ["b", "c"]


async def test_the_result_of_an_old_run(kernel: Kernel, world: World, program: Program) -> None:
    """A run that has ended is not asked for its definition: its result is what it is."""
    result = await kernel.run(program.flow("a", "b", "end"), run_id="r")
    assert await kernel.run(program.flow("a", "end", version="2"), run_id="r") == result


def declared(start: str = "a", **targets: tuple[str, ...]) -> list[tuple[str, Any]]:
    """States with the targets that their tasks declare."""
    return [(start, None), *targets.items()]


def lines(states: list[tuple[str, Any]], **options: Any) -> Workflow[str]:
    """A workflow whose tasks declare their targets. A state without any is an exit state."""
    (start, _), *others = states
    flow = Workflow(start, name="flow", **options)
    for state, targets in others:
        if targets:
            task: Any = type("Work", (Task,), {"run": _run, "targets": targets})()
            flow.register(state, task)
        else:
            flow.add_exit_state(state)
    return flow


async def _run(self: Any, store: Any) -> Any:
    return self.targets[0]


OLD = declared(a=("b", "c"), b=("c",), c=("end",), end=())


@pytest.mark.parametrize(
    ("migrate", "new", "accepted"),
    [
        ({"b": "beta"}, declared(a=("beta", "c"), beta=("c",), c=("end",), end=()), True),  # renamed
        ({"b": "c"}, declared(a=("c",), c=("end",), end=()), True),  # removed
        ({"b": "c", "a": "c"}, declared("c", c=("end",), end=()), True),  # the start is removed, too
        ({"end": "done"}, declared(a=("b", "c"), b=("c",), c=("done",), done=()), True),  # an exit state is renamed
        ({"b": "beta"}, declared(a=("beta", "c"), beta=("end",), c=("end",), end=()), True),  # renamed, and rewritten
        ({"b": "c"}, declared(a=("b", "c"), b=("c",), c=("end",), end=()), True),  # nothing has changed
        ({"b": "beta"}, declared(a=("beta", "c"), beta=("c",), c=("end", "a"), end=()), False),  # one more transition
        ({"b": "beta"}, declared(a=("beta", "c", "d"), beta=("c",), c=("end",), d=("end",), end=()), False),  # a state
        ({"b": "end"}, declared(a=("end",), end=()), False),  # c is removed, and not named
        ({"a": "c"}, declared("b", b=("c",), c=("end",), end=()), True),  # the start is removed, and another one is it
        ({"b": "beta"}, declared(a=("beta", "c"), beta=("c",), c=("done",), done=()), False),  # another exit state
        ({"x": "a"}, declared(a=("b",), b=("c",), c=("end",), end=()), False),  # a leftover
        ({}, declared(a=("b",), b=("c",), c=("end",), end=()), False),
    ],
)
async def test_a_migration_is_for_the_states_that_it_names(
    kernel: Kernel, world: World, migrate: dict[str, str], new: list[tuple[str, Any]], accepted: bool
) -> None:
    """A leftover `migrate` accepts no other change: `migrate_from` does, for the versions that it names."""
    record = RunRecord("r", "flow", "1", lines(OLD).fingerprint(), "c")
    present = lines(new, migrate=migrate)
    assert accepted is accepts(kernel, present, record)
    assert not accepts(kernel, lines(new, migrate=migrate, version="2"), record)
    if any(state == "c" for state, _ in new):
        assert accepts(kernel, lines(new, migrate=migrate, version="2", migrate_from=["0", "1"]), record)
    assert not accepts(kernel, lines(new, migrate=migrate, version="3", migrate_from=["2"]), record)


async def test_another_start_or_task_is_no_migration(kernel: Kernel, world: World, program: Program) -> None:
    """Neither is a state that was removed or renamed."""
    circle: dict[str, Any] = {"a": ("b",), "b": ("c",), "c": ("a", "end"), "end": ()}
    record = RunRecord("r", "flow", "1", lines(declared(**circle)).fingerprint(), "c")
    assert accepts(kernel, lines(declared(**circle), migrate={"x": "a"}), record)
    assert not accepts(kernel, lines(declared("b", **circle), migrate={"x": "a"}), record)
    record = RunRecord("r", "flow", "1", program.flow("a", "c", "end").fingerprint().replace("do_a", "other"), "c")
    assert not accepts(kernel, program.flow("a", "c", "end", migrate={"x": "a"}), record)


@pytest.mark.parametrize(
    ("new", "options", "refused", "remedy"),
    [
        (
            declared(a=("end",), end=()),
            {"migrate": {"b": "end"}}, "the changed state a, the removed state c", "{'b': …, 'c': …}",
        ),
        (
            declared(a=("beta", "d"), beta=("c",), c=("end",), d=("end",), end=()),
            {"migrate": {"b": "beta"}}, "the changed state a, the new state d", "{'b': …}",
        ),
        (declared("b", b=("c",), c=("end",), end=()), {"migrate": {}}, "the changed start, the removed state a", "{}"),
        (OLD, {"migrate": {"b": "c"}, "version": "2"}, "its version '1'", "{'b': …}"),
        (OLD, {"migrate": {"b": "c"}, "version": "2", "migrate_from": ["0"]}, "its version '1'", "{'b': …}"),
    ],
)  # fmt: skip
async def test_a_refused_migration_says_what_it_lacks(
    kernel: Kernel, world: World, new: Any, options: dict[str, Any], refused: str, remedy: str
) -> None:
    """The error names what `migrate` does not cover, and the `migrate_from` with which the run continues."""
    record = RunRecord("r", "flow", "1", lines(OLD).fingerprint(), "c")
    with pytest.raises(VersionMismatchError) as error:
        landing_state(kernel.bind(lines(new, **options)), record)
    *_, reason, advice = str(error.value).splitlines()

    assert reason == f"The workflow's migrate= is refused, since it does not cover {refused}"
    versions = [*options.get("migrate_from", ()), "1"]
    assert f"define Workflow(migrate={remedy}, migrate_from={versions!r}), which accepts all differences" in advice
    followed = {**options, "migrate": {**options["migrate"], "c": "end"}, "migrate_from": versions}
    assert landing_state(kernel.bind(lines(new, **followed)), record) == "end"


def accepts(kernel: Kernel, flow: Workflow[str], record: RunRecord) -> bool:
    """Whether a run may continue; if not, the error says what would let it."""
    with suppress(VersionMismatchError):
        return landing_state(kernel.bind(flow), record) in ("c", "end")
    return False


@pytest.mark.parametrize(
    "options", [{"migrate_from": ["1"]}, {"migrate": {}, "migrate_from": "1"}, {"migrate": {}, "migrate_from": [1]}]
)
def test_versions_that_there_cannot_be(options: Any) -> None:
    """They are a list of texts, and need `migrate`."""
    with pytest.raises(ConfigurationError, match="migrate_from"):
        Workflow("a", **options)


async def test_forks_of_a_migrated_run(kernel: Kernel, world: World, program: Program) -> None:
    """A fork of a run after its migration has migrated, too: it needs no `migrate`; one from before needs it."""
    await program.stop(kernel, program.flow("a", "b", "c", "end"), world, at=2)
    migrating = program.flow("a", "beta", "c", "end", migrate={"b": "beta"})
    other = await world.kernel()
    fault = world.faults(other).at_call("commit", 2).hang()  # the one after that of the migration
    await other.recover(migrating)
    await fault.reached()
    await world.crash(other)
    await world.lapse()

    last = await world.kernel()
    await last.fork("r", 1, "present")
    await last.run(migrating, run_id="r")
    for seq, fork in ((1, "past"), (2, "later"), (3, "ended")):
        await last.fork("r", seq, fork)
    await last.fork("later", 2, "of a fork")
    for fork in ("present", "later", "ended", "of a fork"):
        program.did.clear()
        await last.resume(program.flow("a", "beta", "c", "end"), fork)
        assert program.did == {"present": ["beta", "c"], "ended": []}.get(fork, ["c"])
    with pytest.raises(VersionMismatchError, match="the run is in state b, which no longer exists"):
        await last.resume(program.flow("a", "beta", "c", "end"), "past")
    assert (await last.resume(migrating, "past")).state == "end"
