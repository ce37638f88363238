"""The store contract: runs that a kernel can claim and resume."""

from __future__ import annotations

import asyncio
import math

from cano.optional_stores import read_ready
from cano.protocols import StoreBackend
from cano.records import RunStatus, Wait
from cano.signals import Signal
from cano.testing.contract_base import LATER, NOW, Contract, clause, free_run, loaded, new_run, note, step, values

JUST_BEFORE = math.nextafter(NOW, -math.inf)
JUST_AFTER = math.nextafter(NOW, math.inf)


async def ready(store: StoreBackend) -> list[str]:
    """Return the ids of the runs that are ready now, sorted."""
    return sorted(run.run_id for run in await store.ready(NOW))


class ReadyClauses(Contract):
    """Runs that a kernel can claim and resume."""

    @clause
    async def test_a_parked_run_is_ready_when_its_time_has_come(self, store: StoreBackend) -> None:
        """A parked run is ready if its wait ends `now` or earlier, even if it also waits for a signal."""
        for signal in (None, "go"):
            for name, until in (("past", 0.0), ("now", NOW), ("soon", JUST_AFTER), ("never", None)):
                wait = Wait(then="B", signal=signal, until=until)
                await store.create(free_run(f"{name} {signal}", status=RunStatus.PARKED, wait=wait))
        await store.create(free_run("no wait", status=RunStatus.PARKED))

        assert await ready(store) == ["now None", "now go", "past None", "past go"]

    @clause
    async def test_a_parked_run_is_ready_when_its_signal_is_there(self, store: StoreBackend) -> None:
        """A parked run is ready if it has an unconsumed signal with the name that it waits for."""
        wait = Wait(then="B", signal="go", until=LATER)
        for run_id in ("before", "after", "other name", "other run", "consumed"):
            if run_id == "before":
                await store.put_signal(run_id, Signal("1", "go"))
            await store.create(new_run(run_id))
            await store.put_signal(run_id, Signal("2", "stop"))
            if run_id == "consumed":
                await store.put_signal(run_id, Signal("1", "go"))
            consumed = ["1"] if run_id == "consumed" else []
            parked = note(0, run_id, status=RunStatus.PARKED, wait=wait, release=True, consumed=consumed)
            await store.commit(parked)
        await store.put_signal("after", Signal("1", "go"))
        await store.put_signal("no such run", Signal("1", "go"))
        await store.create(free_run("for time alone", status=RunStatus.PARKED, wait=Wait(then="B", until=LATER)))
        await store.put_signal("for time alone", Signal("1", "go"))

        assert await ready(store) == ["after", "before"]

    @clause
    async def test_a_run_created_parked_is_ready_when_its_signal_came_first(self, store: StoreBackend) -> None:
        """A run that is created parked, as a fork may be, is ready if its signal was sent before."""
        wait = Wait(then="B", signal="go", until=LATER)
        await store.put_signal("run", Signal("1", "go"))
        await store.put_signal("other", Signal("1", "stop"))
        for run_id in ("run", "other"):
            await store.create(free_run(run_id, status=RunStatus.PARKED, wait=wait))

        assert await ready(store) == ["run"]

    @clause
    async def test_a_run_that_is_parked_again_is_ready_for_another_signal(self, store: StoreBackend) -> None:
        """A parked run that has consumed its signal is ready only if another unconsumed one has the awaited name."""
        wait = Wait(then="B", signal="go", until=LATER)
        for run_id, more in (("one", 1), ("two", 2)):
            await store.create(new_run(run_id, status=RunStatus.PARKED, wait=wait))
            for each in range(more):
                await store.put_signal(run_id, Signal(f"{each}", "go"))
            await store.commit(step(1, run_id, status=RunStatus.PARKED, wait=wait, consumed=["0"], release=True))
        assert await ready(store) == ["two"]

        await store.put_signal("one", Signal("0", "go"))  # the same once more: it was consumed
        assert await ready(store) == ["two"]

    @clause
    async def test_no_signal_is_missed_while_its_run_is_parked(self, store: StoreBackend) -> None:
        """A run is ready however its signal and the commit that parks it, or its creation, follow each other."""
        wait = Wait(then="B", signal="go", until=LATER)
        runs = [f"{number:02}" for number in range(20)]
        for run_id in runs[:10]:
            await store.create(new_run(run_id))
        parking = [store.commit(step(1, each, status=RunStatus.PARKED, wait=wait, release=True)) for each in runs[:10]]
        creating = [store.create(free_run(each, status=RunStatus.PARKED, wait=wait)) for each in runs[10:]]
        signalling = [store.put_signal(each, Signal("1", "go")) for each in runs]
        await asyncio.gather(*signalling[::2], *parking, *creating, *signalling[1::2])

        assert await ready(store) == runs

    @clause
    async def test_a_signal_without_a_name_wakes_its_run(self, store: StoreBackend) -> None:
        """The empty text is a valid name: a run that waits for such a signal is ready when it was sent."""
        await store.create(free_run(status=RunStatus.PARKED, wait=Wait(then="B", signal="")))
        await store.put_signal("run", Signal("1", "go"))
        assert await ready(store) == []
        await store.put_signal("run", Signal("", ""))
        assert await ready(store) == ["run"]

    @clause
    async def test_a_running_run_is_ready_when_nobody_holds_it(self, store: StoreBackend) -> None:
        """A running run is ready if it has no holder, or its lease expired before `now`; not at `expires` itself."""
        await store.create(free_run("free"))
        await store.create(new_run("ended", expires=JUST_BEFORE))
        await store.create(new_run("last moment", expires=NOW))
        await store.create(new_run("held"))
        await store.create(new_run("released"))
        await store.commit(step(1, "released", release=True))

        assert await ready(store) == ["ended", "free", "released"]

    @clause
    async def test_a_held_parked_run_is_not_ready(self, store: StoreBackend) -> None:
        """A parked run with a holder is about to continue: it is ready only when that lease has expired."""
        due = {"status": RunStatus.PARKED, "wait": Wait(then="B", signal="go", until=NOW - 1)}
        for run_id, expires in (("held", LATER), ("last moment", NOW), ("ended", JUST_BEFORE)):
            await store.create(new_run(run_id, expires=expires, **due))
            await store.put_signal(run_id, Signal("1", "go"))

        assert await ready(store) == ["ended"]

    @clause
    async def test_a_finished_run_is_not_ready(self, store: StoreBackend) -> None:
        """A finished run is never ready, even if it has no holder, its time has come and it has a signal."""
        wait = Wait(then="B", signal="go", until=NOW - 1)
        for status in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED):
            await store.create(free_run(status.value, status=status, wait=wait))
            await store.put_signal(status.value, Signal("1", "go"))

        assert await ready(store) == []

    @clause
    async def test_a_run_that_went_on_is_not_ready(self, store: StoreBackend) -> None:
        """A run is not ready after it was claimed, nor after it has continued."""
        wait = Wait(then="B", signal="go", until=NOW - 1)
        await store.create(free_run(status=RunStatus.PARKED, wait=wait))
        await store.put_signal("run", Signal("1", "go"))
        assert await ready(store) == ["run"]

        await store.claim("run", "me", NOW, LATER)
        assert await ready(store) == []
        await store.commit(step(1, consumed=["1"]))
        assert await ready(store) == []

    @clause
    async def test_ready_runs_come_without_their_data(self, store: StoreBackend) -> None:
        """Each ready run is returned once, with its whole record except for `data`, and does not change."""
        wait = Wait(then="B", signal="go", until=NOW - 1, on_timeout="C")
        run = free_run(status=RunStatus.PARKED, wait=wait, data=values(store, a=1), token=3)
        await store.create(run)
        for each in "12":
            await store.put_signal("run", Signal(each, "go"))

        assert list(await store.ready(NOW)) == [run._replace(data={})]
        assert await loaded(store) == run
        assert await store.next_signal("run", "go") == Signal("1", "go")

    @clause
    async def test_ready_runs_of_other_workflows_are_left_out(self, store: StoreBackend) -> None:
        """A store with `capabilities.ready_filters` returns the runs of the given workflows only, as without them."""
        wait = Wait(then="B", signal="go", until=NOW - 1)
        for workflow in ("flow", "flows", "Flow", "other"):
            await store.create(free_run(f"{workflow} free", workflow=workflow))
            await store.create(new_run(f"{workflow} expired", workflow=workflow, expires=JUST_BEFORE))
            await store.create(new_run(f"{workflow} held", workflow=workflow))
            await store.create(free_run(f"{workflow} due", workflow=workflow, status=RunStatus.PARKED, wait=wait))
            signalled = wait._replace(until=None)
            await store.create(
                free_run(f"{workflow} signalled", workflow=workflow, status=RunStatus.PARKED, wait=signalled)
            )
            await store.put_signal(f"{workflow} signalled", Signal("1", "go"))
        every = {run.run_id: run for run in await store.ready(NOW)}
        assert len(every) == 16

        for names in ({"flow"}, {"other", "Flow", "none"}, set[str]()):
            found = await read_ready(store, NOW, names)
            expected = [run for run in every.values() if run.workflow in names]
            assert {run.run_id: run for run in found} == {run.run_id: run for run in expected}
            assert len(found) == 4 * len(names - {"none"})
