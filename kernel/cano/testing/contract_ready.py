"""The store contract: which runs could go on."""

from __future__ import annotations

import math

from cano.protocols import StoreBackend
from cano.records import RunStatus, Signal, Wait
from cano.testing.contract_base import LATER, NOW, Contract, clause, free_run, loaded, new_run, note, step, values

JUST_BEFORE = math.nextafter(NOW, -math.inf)
JUST_AFTER = math.nextafter(NOW, math.inf)


async def ready(store: StoreBackend) -> list[str]:
    """The ids of the runs that are ready now, in order of the alphabet."""
    return sorted(run.run_id for run in await store.ready(NOW))


class ReadyClauses(Contract):
    """Which runs could go on."""

    @clause
    async def test_a_parked_run_is_ready_when_its_time_has_come(self, store: StoreBackend) -> None:
        """A parked run is ready when its wait ends `now` or earlier, also one that waits for a signal as well."""
        for signal in (None, "go"):
            for name, until in (("past", 0.0), ("now", NOW), ("soon", JUST_AFTER), ("never", None)):
                wait = Wait(then="B", signal=signal, until=until)
                await store.create(free_run(f"{name} {signal}", status=RunStatus.PARKED, wait=wait))
        await store.create(free_run("no wait", status=RunStatus.PARKED))

        assert await ready(store) == ["now None", "now go", "past None", "past go"]

    @clause
    async def test_a_parked_run_is_ready_when_its_signal_is_there(self, store: StoreBackend) -> None:
        """A parked run is ready when there is a signal of the name it waits for, sent to it, not yet consumed."""
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
    async def test_a_signal_without_a_name_wakes_its_run(self, store: StoreBackend) -> None:
        """The empty text is a name as any other: a run may wait for a signal of it, and is ready when that is there."""
        await store.create(free_run(status=RunStatus.PARKED, wait=Wait(then="B", signal="")))
        await store.put_signal("run", Signal("1", "go"))
        assert await ready(store) == []
        await store.put_signal("run", Signal("", ""))
        assert await ready(store) == ["run"]

    @clause
    async def test_a_running_run_is_ready_when_nobody_holds_it(self, store: StoreBackend) -> None:
        """A running run is ready when nobody holds it or its lease ended before `now`, and not at its last moment."""
        await store.create(free_run("free"))
        await store.create(new_run("ended", expires=JUST_BEFORE))
        await store.create(new_run("last moment", expires=NOW))
        await store.create(new_run("held"))
        await store.create(new_run("released"))
        await store.commit(step(1, "released", release=True))

        assert await ready(store) == ["ended", "free", "released"]

    @clause
    async def test_a_held_parked_run_is_not_ready(self, store: StoreBackend) -> None:
        """A parked run that somebody holds is about to go on already: it is ready only if that lease ends too."""
        due = {"status": RunStatus.PARKED, "wait": Wait(then="B", signal="go", until=NOW - 1)}
        for run_id, expires in (("held", LATER), ("last moment", NOW), ("ended", JUST_BEFORE)):
            await store.create(new_run(run_id, expires=expires, **due))
            await store.put_signal(run_id, Signal("1", "go"))

        assert await ready(store) == ["ended"]

    @clause
    async def test_a_finished_run_is_not_ready(self, store: StoreBackend) -> None:
        """A finished run is never ready, though nobody holds it, its time has come and a signal is there."""
        wait = Wait(then="B", signal="go", until=NOW - 1)
        for status in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED):
            await store.create(free_run(status.value, status=status, wait=wait))
            await store.put_signal(status.value, Signal("1", "go"))

        assert await ready(store) == []

    @clause
    async def test_a_run_that_went_on_is_not_ready(self, store: StoreBackend) -> None:
        """A run is no longer ready once it was claimed, and not again when it has gone on."""
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
        """A ready run is the whole record as it is now, once, with empty `data`, and stays as it was."""
        wait = Wait(then="B", signal="go", until=NOW - 1, on_timeout="C")
        run = free_run(status=RunStatus.PARKED, wait=wait, data=values(store, a=1), token=3)
        await store.create(run)
        for each in "12":
            await store.put_signal("run", Signal(each, "go"))

        assert list(await store.ready(NOW)) == [run._replace(data={})]
        assert await loaded(store) == run
        assert await store.next_signal("run", "go") == Signal("1", "go")
