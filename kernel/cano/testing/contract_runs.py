"""The store contract: listing runs."""

from __future__ import annotations

from itertools import product
from typing import Any

from cano.optional_stores import AttributeStore
from cano.protocols import StoreBackend
from cano.records import RunRecord, RunStatus, Wait
from cano.run_filter import ORDERS, RunFilter
from cano.search_attributes import AttributeRange
from cano.testing.contract_base import (
    NOW,
    Contract,
    check_pages,
    clause,
    free_run,
    loaded,
    new_run,
    note,
    step,
    value,
    values,
)


class RunsClauses(Contract):
    """Listing runs."""

    @clause
    async def test_runs_are_listed_newest_first(self, store: StoreBackend) -> None:
        """All runs are listed, the one `created` last first, in whatever order they were stored and updated."""
        for age in (3, 1, 4, 0, 5, 2):
            await store.create(new_run(f"{age}", created=NOW - age, updated=NOW - age))
        await store.commit(step(1, "4", at=NOW + 99))

        assert [run.run_id for run in await store.runs(RunFilter())] == list("012345")

    @clause
    async def test_runs_are_listed_without_their_data(self, store: StoreBackend) -> None:
        """A listed run is its whole current record, lease and wait included, with empty `data`."""
        run = new_run(
            status=RunStatus.PARKED, data=values(store, a=1), error={"class": "E"}, payload=value(store, 2),
            wait=Wait(then="B", signal="go", until=NOW + 1, on_timeout="C"), parent="parent",
        )  # fmt: skip
        await store.create(run)
        assert list(await store.runs(RunFilter())) == [run._replace(data={})]

        await store.commit(step(1, changed=values(store, b=2)))
        assert list(await store.runs(RunFilter())) == [(await loaded(store))._replace(data={})]

    @clause
    async def test_runs_are_filtered(self, store: StoreBackend) -> None:
        """A filter's workflow, status and parent must all match exactly; the status is the last committed one."""
        workflows, statuses, parents = ("flow", "Flow", "flow2"), tuple(RunStatus), (None, "p", "p/1")
        runs = {}
        for number, (workflow, status, parent) in enumerate(product(workflows, statuses, parents)):
            # created with another status than the one that the filter is to find
            run = new_run(f"run {number}", workflow=workflow, parent=parent, created=NOW - number)
            await store.create(run)
            await store.commit(step(1, run.run_id, status=status))
            runs[run.run_id] = (workflow, status, parent)

        wants = product((None, *workflows, "fl%", ""), (None, *statuses), (None, "p", "p/1", "_", ""))
        for wanted in wants:
            expected = [
                run_id
                for run_id, run in runs.items()
                if all(want is None or want == has for want, has in zip(wanted, run, strict=True))
            ]
            found = await store.runs(RunFilter(workflow=wanted[0], status=wanted[1], parent=wanted[2]))
            assert [run.run_id for run in found] == expected

    @clause
    async def test_runs_are_filtered_by_more(self, store: StoreBackend) -> None:
        """With `filters`, state and times must match, too, as they are now; the limit and `after` count matching runs.

        The bounds of times are not included. Of other stores the kernel does not ask for this.
        """
        if not store.capabilities.filters:
            return
        for number in range(24):
            parent, workflow = ("p", None)[number % 2], ("flow", "other")[number // 2 % 2]
            await store.create(new_run(f"{number}", workflow=workflow, parent=parent, created=NOW + number // 2))
            state, status = (
                "ABC"[number % 3],
                (RunStatus.FAILED, RunStatus.RUNNING, RunStatus.SUCCEEDED)[number // 4 % 3],
            )
            await store.commit(step(1, f"{number}", state=state, status=status, at=NOW + 50 + number % 5))
        every = await store.runs(RunFilter())
        more: list[dict[str, Any]] = [
            {"state": "B"}, {"state": "b"}, {"created_after": NOW + 3}, {"created_before": NOW + 4},
            {"created_after": NOW + 2, "created_before": NOW + 9}, {"updated_after": NOW + 51},
            {"updated_before": NOW + 53}, {"updated_after": NOW + 50, "updated_before": NOW + 54, "state": "A"},
            {"state": "C", "created_after": NOW, "created_before": NOW + 11, "updated_after": NOW + 49},
        ]  # fmt: skip
        for fields, *wanted in product(more, (None, "flow"), (None, *RunStatus), (None, "p")):
            filter = RunFilter(*wanted, **fields)
            expected = [run.run_id for run in every if filter.matches(run)]
            assert {run.run_id for run in await store.runs(filter)} == {*expected}, filter
            if store.capabilities.pages:
                await check_pages(store, filter, expected)

    @clause
    async def test_runs_are_ordered(self, store: StoreBackend) -> None:
        """With `orders`, lists have the order of the filter, and their pages are the whole list.

        By `updated`, a list has the runs that have ended with a status. An ended run that is resumed leaves it, and
        returns with its new end.
        """
        if not store.capabilities.orders:
            return
        statuses = RunStatus.FAILED, RunStatus.RUNNING, RunStatus.SUCCEEDED
        has = {}
        for number in range(30):
            parent, workflow = ("p", None)[number % 2], ("flow", "other")[number // 2 % 2]
            run_id, created, updated = f"{number * 7 % 30}", NOW + number // 2, NOW + 50 + number * 11 % 10
            has[run_id] = {"x": b"sa" if number % 3 else b"sb"} if store.capabilities.attributes else {}
            run = new_run(run_id, workflow=workflow, parent=parent, created=created, attributes=has[run_id])
            await store.create(run)
            status = statuses[number // 4 % 3]
            await store.commit(step(1, run_id, state="AB"[number % 2], status=status, at=updated))
        await store.commit(step(2, "0", status=RunStatus.RUNNING))
        await store.commit(step(3, "0", status=RunStatus.FAILED, at=NOW + 45))
        await store.create(new_run("new", status=RunStatus.FAILED, created=NOW + 3, updated=NOW + 54, parent="p"))
        every = [run._replace(attributes=has.get(run.run_id, {})) for run in await store.runs(RunFilter())]
        more: list[dict[str, Any]] = [{}]
        if store.capabilities.attributes:
            more += [{"attributes": {"x": (AttributeRange(b"sa", b"sa\0"),)}}]
        if store.capabilities.filters:
            more += [{**each, "state": "A", "updated_after": NOW + 51, "created_before": NOW + 12} for each in more]
        for order, fields, *wanted in product(ORDERS, more, (None, "flow"), (None, *statuses), (None, "p")):
            filter = RunFilter(*wanted)._replace(order=order, **fields)
            if filter.by_update and (filter.status is None or not filter.status.finished):
                continue
            found = [run for run in every if filter.matches(run)]
            found.sort(key=filter.place_of, reverse=not filter.ascending)
            await check_pages(store, filter, [run.run_id for run in found])

    @clause
    async def test_runs_are_found_by_their_outcome(self, store: StoreBackend) -> None:
        """With `outcomes`, runs that have ended are found by their state, and failed ones by an error or its cause.

        A run is found by the error of its last failure only, and by none while it is resumed.
        """
        if not store.capabilities.outcomes:
            return
        errors = ("A", None), ("B", "A: why"), ("B", "C"), ("A", "A: why"), ("a", None), ("é: x", "B"), (None, "")
        has = {}
        for number in range(28):
            type, cause = errors[number % 7]
            error = {"message": "A", "type": type, "cause": cause, "more": {"type": "A"}} if type else None
            status = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SUCCEEDED)[number // 7 % 3]
            failed, run_id = status is RunStatus.FAILED, f"{number}"
            run = new_run(run_id, workflow=("flow", "other")[number % 2], parent=("p", None)[number // 2 % 2])
            state, at = "XY"[number // 3 % 2], NOW + number * 5 % 28
            ends: dict[str, Any] = {"state": state, "status": status, "error": error if failed else None}
            if number % 4:
                await store.create(run._replace(created=NOW + number // 2))
                await store.commit(step(1, run_id, at=at, **ends))
            else:
                await store.create(run._replace(created=NOW + number // 2, updated=at, **ends))
            has[run_id] = {"x": b"sa"} if store.capabilities.attributes and number % 2 else {}
            if has[run_id]:
                await store.commit(note(1 if number % 4 else 0, run_id, at=at, attributes=has[run_id], **ends))
        await store.commit(step(1, "0"))
        await store.commit(step(2, "22"))
        await store.commit(step(3, "22", state="X", status=RunStatus.FAILED, error={"type": "New"}, at=NOW + 40))
        every = [run._replace(attributes=has[run.run_id]) for run in await store.runs(RunFilter())]
        outcomes: list[dict[str, Any]] = [
            *({"status": RunStatus.FAILED, "error": name} for name in ("A", "B", "C", "a", "é", "é: x", "New", "None")),
            *({"status": status, "state": "X"} for status in RunStatus if status.finished),
            {"status": RunStatus.FAILED, "state": "Y", "error": "B"}, {"status": RunStatus.FAILED, "state": "x"},
        ]  # fmt: skip
        more: list[dict[str, Any]] = [{}, {"workflow": "flow"}, {"parent": "p"}]
        if store.capabilities.attributes:
            more += [{"attributes": {"x": (AttributeRange(b"sa", b"sa\0"),)}}]
        orders = ORDERS if store.capabilities.orders else ORDERS[:1]
        for outcome, fields, order in product(outcomes, more, orders):
            filter = RunFilter(order=order)._replace(**outcome, **fields)
            found = [run for run in every if filter.matches(run)]
            found.sort(key=filter.place_of, reverse=not filter.ascending)
            await check_pages(store, filter, [run.run_id for run in found])
            if isinstance(store, AttributeStore):
                assert await store.count(filter) == len(found), filter

    @clause
    async def test_the_status_is_the_stored_one(self, store: StoreBackend) -> None:
        """A filter compares the stored status: a running run without a holder is listed as RUNNING."""
        await store.create(free_run())

        assert [run.status for run in await store.runs(RunFilter(status=RunStatus.RUNNING))] == [RunStatus.RUNNING]
        assert list(await store.runs(RunFilter(status=RunStatus.INTERRUPTED))) == []

    @clause
    async def test_pages_of_a_list_leave_out_no_run(self, store: StoreBackend) -> None:
        """With `pages`, lists are sorted by `place`, and the pages after each other's last runs are the whole list.

        The runs of a page may be deleted before the next is asked for.
        """
        if not store.capabilities.pages:
            return
        ids = ["a", "B", "b", "ä", "a0", "10", "9", "Z\U0001f600", "Z\ufffd"]
        for number, run_id in enumerate(ids * 3):
            status = RunStatus.FAILED if number % 2 else RunStatus.RUNNING
            created = NOW - number // 6  # some at the same time
            await store.create(new_run(f"{run_id} {number % 7}", status=status, parent="p", created=created))
        for wanted in product((None, "flow"), (None, RunStatus.FAILED), (None, "p")):
            filter = RunFilter(*wanted)
            every = await store.runs(filter)
            assert list(every) == sorted(every, key=lambda run: run.place, reverse=True)
            for limit in (1, 2, 5, None):
                page, found = await store.runs(filter._replace(limit=limit)), list[RunRecord]()
                while page and len(found) < len(every):
                    found += page
                    page = await store.runs(filter._replace(limit=limit, after=page[-1].place))
                assert [*found, *page] == list(every)
        if store.capabilities.retention:
            every = await store.runs(RunFilter())
            page = await store.runs(RunFilter(limit=4))
            for run in page:
                await store.delete(run.run_id)
            assert list(await store.runs(RunFilter(after=page[-1].place))) == list(every[4:])

    @clause
    async def test_runs_are_limited(self, store: StoreBackend) -> None:
        """A limit selects the newest matching runs: 0 selects none, None all."""
        for age in range(6):
            await store.create(new_run(f"{age}", workflow="even" if age % 2 == 0 else "odd", created=NOW - age))

        for limit, expected in ((0, ""), (1, "1"), (2, "13"), (3, "135"), (9, "135"), (None, "135")):
            found = await store.runs(RunFilter(workflow="odd", limit=limit))
            assert [run.run_id for run in found] == list(expected)

        for age in range(6, 18):  # newer and older ones that each filter leaves out
            parent, status = ("p", None)[age // 2 % 2], (RunStatus.FAILED, RunStatus.RUNNING)[age // 4 % 2]
            await store.create(new_run(f"{age}", parent=parent, status=status, created=NOW - age))
        for wanted in product((None, "flow"), (None, RunStatus.FAILED), (None, "p")):
            filter = RunFilter(*wanted)
            every = [run.run_id for run in await store.runs(filter)]
            for limit in (1, 2, 3):
                found = await store.runs(filter._replace(limit=limit))
                assert [run.run_id for run in found] == every[:limit]
