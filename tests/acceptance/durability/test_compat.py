"""`Kernel.compat`: which unfinished runs of a store a program could not continue; on any store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from cano import (
    Commit,
    CompatGroup,
    CompatReport,
    ConfigurationError,
    Kernel,
    RunFilter,
    RunRecord,
    StoreBackend,
    SubWorkflow,
    TaskConfig,
    Workflow,
    wait_for,
)
from cano_durability.keeper import Keeper
from cano_durability.keys import TAKEOVERS

from tests.acceptance.durability.shared import Shared


@pytest.fixture
def store(any_store: str | StoreBackend) -> str | StoreBackend:
    """Also an encrypted one."""
    return any_store


@dataclass
class Parcel:
    """A class that one program has, and the other one has not."""

    weight: int


async def ask(store: Any) -> Any:
    """Wait for a signal, or a day."""
    return wait_for("go", then="PACK", timeout=86_400, on_timeout="LATE")


async def weigh(store: Any) -> Any:
    """Store a value of the class, and wait."""
    store["parcel"] = Parcel(3)
    return wait_for("go", then="PACK")


async def done(store: Any) -> str:
    """End the run."""
    return "END"


def flow(*states: str, name: str = "post", version: str = "1", **options: Any) -> Workflow[Any]:
    """Return a workflow that waits, and then is in one of `states`."""
    made: Workflow[Any] = Workflow("ASK", name=name, version=version, default_config=TaskConfig.minimal(), **options)
    made.register("ASK", ask)
    for state in states or ("PACK", "LATE"):
        made.register(state, done)
    return made.add_exit_state("END")


async def until_parked(kernel: Kernel, run_id: str) -> None:
    """Return when the run waits."""
    await anext(event async for event in (await kernel.attach(run_id)).events() if event.kind == "wait")


def found(report: CompatReport) -> list[tuple[str, str, str, int, str]]:
    """Return the groups without their texts."""
    return [(group.workflow, group.version, group.state, group.runs, group.problem) for group in report.groups]


async def test_every_unfinished_run_counts(store: str | StoreBackend) -> None:
    """Queued, delayed, parked and interrupted ones do, by definition and state; those that have ended do not."""
    other = flow(name="other")
    async with Kernel(store=store, grace=0) as kernel:
        for number in range(3):
            await kernel.submit(flow(), {}, run_id=f"queued-{number}")
        await kernel.submit(flow(), {}, run_id="delayed", delay=3600)
        for run_id in ("parked", "ended", "cancelled"):
            await kernel.start(flow(), {}, run_id=run_id)
            await until_parked(kernel, run_id)
        await kernel.signal("ended", "go")
        await kernel.run(flow(), run_id="ended")
        await kernel.cancel("cancelled")
        await kernel.submit(other, {}, run_id="other")
        await kernel.submit(flow(name="cano.webhooks.mine"), {}, run_id="of a plugin")
    async with Kernel(store=store) as kernel:
        same = await kernel.compat(flow(), other)
        assert found(same) == [
            ("other", "1", "ASK", 1, ""), ("post", "1", "ASK", 4, ""), ("post", "1", "PACK", 1, ""),
        ]  # fmt: skip
        assert (same.unfinished, same.stranded) == (6, 0)
        newer = await kernel.compat(flow(version="2"), only_given=True)
        assert found(newer) == [("post", "1", "ASK", 4, "changed"), ("post", "1", "PACK", 1, "changed")]
        assert newer.groups[0].fingerprint == flow().fingerprint()
        assert newer.groups[0].differences == ("its version was '1', this one is '2'",)
        assert "migrate_from=['1']" in newer.groups[0].remedy
        assert set(newer.groups[0].examples) < {"queued-0", "queued-1", "queued-2", "delayed"}
        assert len(newer.groups[0].examples) == 3
        missing = await kernel.compat(flow())
        assert found(missing)[0] == ("other", "1", "ASK", 1, "missing")
        assert (missing.stranded, missing.unfinished) == (1, 6)


async def test_a_removed_state_strands_runs_that_are_in_it(store: str | StoreBackend) -> None:
    """Also if a parked run would come to it by its timeout alone. `migrate` says where such runs continue."""
    async with Kernel(store=store, grace=0) as kernel:
        await kernel.start(flow(), {}, run_id="r")
        await until_parked(kernel, "r")
    async with Kernel(store=store) as kernel:
        for states, migrate in ((("PACK",), {}), (("LATE",), {}), (("PACK",), {"LATE": "PACK"})):
            new = flow(*states, version="2", migrate=migrate, migrate_from=["1"])
            report = await kernel.compat(new)
            assert report.stranded == (not migrate)
            if not migrate:
                (gone,) = {"PACK", "LATE"} - set(states)
                assert f"the run is in state {gone}, which no longer exists" in report.groups[0].differences
                assert f"{gone!r}: …" in report.groups[0].remedy
        await kernel.signal("r", "go")
        assert (await kernel.resume(new, "r")).state == "END"  # as the report has said


async def test_what_the_codec_cannot_read(store: str | StoreBackend) -> None:
    """Data, and payloads of signals, of classes that the new program does not have. With them, it continues."""

    def parcels(**options: Any) -> Workflow[Any]:
        made: Workflow[Any] = Workflow("WEIGH", name="parcels", default_config=TaskConfig.minimal(), **options)
        return made.register("WEIGH", weigh).register("PACK", done).add_exit_state("END")

    async with Kernel(store=store, grace=0) as kernel:
        for run_id in ("data", "payload"):
            old = parcels(types=[Parcel]) if run_id == "data" else flow(types=[Parcel])
            await kernel.start(old, {}, run_id=run_id)
            await until_parked(kernel, run_id)
        await kernel.signal("payload", "later", Parcel(7))
    if isinstance(store, Shared):
        assert store.capabilities.encoded
    async with Kernel(store=store) as kernel:
        report = await kernel.compat(parcels(), flow())
        assert found(report) == [("parcels", "1", "PACK", 1, "unreadable"), ("post", "1", "PACK", 1, "unreadable")]
        assert "run data, key 'parcel'" in report.groups[0].differences[0]
        assert "the signal's payload" in report.groups[1].differences[0]
        assert "Workflow(types=[…])" in report.groups[0].remedy
    async with Kernel(store=store) as kernel:
        assert (await kernel.compat(parcels(types=[Parcel]), flow(types=[Parcel]))).stranded == 0


async def test_a_migrated_run_counts_as_what_it_is(store: str | StoreBackend) -> None:
    """After the migration, the old program cannot continue it, and the new one can without `migrate`."""
    newer = flow(version="2", migrate={}, migrate_from=["1"])
    async with Kernel(store=store, grace=0) as kernel:
        await kernel.submit(flow(), {}, run_id="r")
    async with Kernel(store=store, grace=0) as kernel:
        await kernel.recover(newer)
        await until_parked(kernel, "r")
    async with Kernel(store=store) as kernel:
        assert found(await kernel.compat(flow())) == [("post", "2", "PACK", 1, "changed")]
        assert found(await kernel.compat(flow(version="2"))) == [("post", "2", "PACK", 1, "")]


async def test_children_and_batches(store: str | StoreBackend) -> None:
    """A sub-workflow's runs are checked against its own definition, unnamed. A batch belongs to its workflow."""

    def order(version: str) -> Workflow[Any]:
        made: Workflow[Any] = Workflow("CHILD", name="order", default_config=TaskConfig.minimal())
        return made.register("CHILD", SubWorkflow(flow(version=version), then="DONE")).add_exit_state("DONE")

    async with Kernel(store=store, grace=0) as kernel:
        await kernel.start(order("1"), {}, run_id="r")
        await until_parked(kernel, "r")
    async with Kernel(store=store) as kernel:
        assert found(await kernel.compat(order("1"))) == [("order", "1", "CHILD", 1, ""), ("post", "1", "PACK", 1, "")]
        assert found(await kernel.compat(order("2")))[0] == ("post", "1", "PACK", 1, "changed")
        batch: Workflow[Any] = Workflow("ASK", name="post batch").register("ASK", ask).register("PACK", done)
        batch.register("LATE", done).add_exit_state("END")
        await kernel.submit(batch, {}, run_id="batch")
        assert found(await kernel.compat(flow()))[-1] == ("post batch", "1", "ASK", 1, "")
        assert found(await kernel.compat(order("1"), only_given=True))[-1] == ("post batch", "1", "ASK", 1, "")
        await kernel.cancel("batch")
        parent_only = await kernel.compat(flow("DONE", name="order"))
        assert [group.problem for group in parent_only.groups] == ["changed", ""]  # the child's code is not known


async def test_what_has_ended_is_not_read(store: str | StoreBackend) -> None:
    """Only unfinished runs are listed, in pages, and loaded."""
    listed, loaded = list[RunFilter](), list[str]()
    ends: Workflow[Any] = Workflow("PACK", name="ends").register("PACK", done).add_exit_state("END")
    async with Kernel(store=store) as kernel:
        for number in range(20):
            await kernel.run(ends, {}, run_id=f"ended-{number}")
        await kernel.submit(flow(), {}, run_id="one")
        backend = kernel.backend
        assert backend is not None
        runs, load = backend.runs, backend.load

        async def noting_runs(filter: RunFilter) -> Any:
            listed.append(filter)
            return await runs(filter)

        async def noting_load(run_id: str) -> RunRecord | None:
            loaded.append(run_id)
            return await load(run_id)

        backend.runs, backend.load = noting_runs, noting_load  # type: ignore[method-assign]
        assert (await kernel.compat(flow())).unfinished == 1
    assert loaded == ["one"]
    assert all(filter.status is not None and not filter.status.finished and filter.limit for filter in listed)


async def test_a_corrupt_run_is_counted(store: str | StoreBackend) -> None:
    """A run of which a value of the engine's own cannot be read is named with the reason, and the others count."""
    async with Kernel(store=store) as kernel:
        for run_id in "ab":
            await kernel.submit(flow(), {}, run_id=run_id)
        assert isinstance(kernel.keeper, Keeper)
        assert kernel.backend is not None
        stored, now = kernel.keeper.stored, kernel.clock.time()
        token, record = await kernel.backend.claim("b", "an editor", now, now + 1), await stored.load("b")
        assert token is not None
        own = stored.values.encode_own({TAKEOVERS: "many"}, "b")
        await kernel.backend.commit(
            Commit("b", token, record.seq, record.seq, record.state, record.status, own=own, release=True, at=now)
        )
        report = await kernel.compat(flow())
        assert [(group.problem, group.examples) for group in report.groups] == [("unreadable", ("b",)), ("", ("a",))]
        assert "its number of takeovers cannot be read" in report.groups[0].differences[0]


async def test_usage_errors() -> None:
    """Without a workflow, or with two of one name, there is nothing to compare with."""
    async with Kernel(store=Shared(strict=True)) as kernel:
        with pytest.raises(ConfigurationError, match=r"no workflow is given; name those of the program"):
            await kernel.compat()
        with pytest.raises(ConfigurationError, match="have the name 'post'"):
            await kernel.compat(flow(), flow(version="2"))


def test_an_empty_report() -> None:
    """It has no runs."""
    assert (CompatReport().unfinished, CompatReport().stranded) == (0, 0)
    assert CompatGroup("a", "1", "f", "S", 2).problem == ""
