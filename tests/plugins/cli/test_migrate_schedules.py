"""Schedules that are migrated go on in the other store: each nominal time is decided once, there or here."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from cano import Kernel, RunFilter, RunRecord, StoreBackend, Workflow, current_step
from cano.testing import VirtualClock
from cano_cli.contents import LayeredStore
from cano_cli.copied_audit import Importer
from cano_cli.migration import SCHEDULES, Tally, copy_order, migrate
from cano_memory import MemoryBackend
from cano_scheduler import Scheduler

EVERY = 10_000_000  # microseconds
PLUGINS = ("memory", "msgspec", "scheduler")


class Kept(MemoryBackend):
    """A store that outlives the kernels on it."""

    async def close(self) -> None:
        """Stay open."""


async def test_a_schedule_goes_on() -> None:
    """Half of the time on one store, half on its copy: the same times as on one, each fired once, by one run."""
    clock, one, two = VirtualClock(), Kept(strict=True), Kept(strict=True)
    ran = list[str]()

    async def work(store: object) -> str:
        ran.append(current_step().run_id)
        await clock.sleep(3)
        return "done"

    def flow() -> Workflow[str]:
        flow: Workflow[str] = Workflow("work", name="tick").add_exit_state("done")
        return flow.register("work", work)

    async def schedule(store: StoreBackend) -> None:
        async with Kernel(store=store, discover=False, plugins=PLUGINS, clock=clock, grace=0) as kernel:
            scheduler = Scheduler(kernel, grace=0).every("e", flow(), 10).every("paused", flow(), 10)
            await scheduler.pause("paused")
            async with scheduler:
                await clock.sleep(32)  # in the middle of a run
            ticks = await scheduler.history("e")
            times = [(tick.nominal_us or 0) + more * EVERY for tick in ticks for more in range(tick.times)]
            assert len(times) == len(set(times))
            told.append(times)

    told: list[list[int]] = []
    await schedule(one)
    await clock.sleep(31)  # past the leases
    tally = Tally()
    importer = Importer(two, "Ada", "SRC")
    await migrate(
        LayeredStore(one), LayeredStore(two), clock, tally, workflow=None, dead_after=5, importer=importer, dry=False
    )
    assert tally.problems == []
    await schedule(two)

    first, both = told
    assert both[: len(first)] == first
    assert len(both) > len(first) + 3
    assert {later - earlier for earlier, later in pairwise(both)} == {EVERY}
    records = await two.runs(RunFilter(workflow="tick"))
    assert max(Counter(record.run_id for record in records).values()) == 1
    assert set(ran) == {record.run_id for record in records}


def test_the_order_of_copying() -> None:
    """The oldest first, children before their parents, schedules last: nobody starts what is about to be copied."""

    def run(run_id: str, created: float, workflow: str = "w", parent: str | None = None) -> RunRecord:
        return RunRecord(
            run_id=run_id, workflow=workflow, version="1", fingerprint="", state="S", parent=parent, created=created
        )

    runs = [
        run("s", 1, SCHEDULES), run("a", 2), run("a/b", 3, "v", "a"), run("a/b/c", 4, "v", "a/b"), run("d", 5),
        run("a/e", 6, "w", "a"), run("orphan", 7, "v", "gone"), run("x", 8, "v", "y"), run("y", 9, "v", "x"),
    ]  # fmt: skip
    newest_first = runs[::-1]

    assert copy_order(newest_first) == ["a/b/c", "a/b", "a/e", "a", "d", "orphan", "y", "x", "s"]
    assert copy_order(newest_first, "w") == ["a/b/c", "a/b", "a/e", "a", "d"]
    assert copy_order(newest_first, SCHEDULES) == ["s"]
