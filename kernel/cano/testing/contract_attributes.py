"""The store contract: finding and counting runs by their search attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

from cano.errors import ConflictError
from cano.optional_stores import AttributeStore, PruningStore, ScopedStore
from cano.protocols import StoreBackend
from cano.records import RunStatus
from cano.run_filter import RunFilter
from cano.search_attributes import AttributeRange, both, encoded, ranges
from cano.signals import Signal
from cano.testing.contract_base import NOW, Contract, check_pages, clause, loaded, new_run, raised, step, values

VALUES: Sequence[Any] = (
    "", "a", "a\0", "ab", "b", "ä", "Z\ufffd", "Z\U0001f600", "10", -(10**20), Decimal("-2.50"), -2, -1.5, 0, 0.1,
    Decimal("0.10"), 9, 10.0, 10, Decimal("10.01"), 10**30, float("inf"), False, True, date(2026, 11, 30),
    datetime(2026, 11, 30, tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC) - timedelta(microseconds=1),
)  # fmt: skip


def _encoded(**attributes: Any) -> dict[str, bytes]:
    return {name: encoded(value) for name, value in attributes.items()}


def _where(sign: str, *wanted: Any, name: str = "x") -> RunFilter:
    """Return a filter with one condition."""
    return RunFilter(attributes={name: ranges(sign, map(encoded, wanted))})


class AttributeClauses(Contract):
    """A store with `capabilities.attributes` is an `AttributeStore`; others have no `attribute_names`."""

    @clause
    async def test_runs_are_found_by_attributes(self, store: StoreBackend) -> None:
        """An attribute must be in one of its ranges, by the order of bytes. A run without it is not found."""
        assert isinstance(store, AttributeStore) == store.capabilities.attributes, "both go together"
        if not isinstance(store, AttributeStore):
            return
        await store.create(new_run("without", attributes={"y": b"sa"}, created=NOW))
        has: dict[str, Mapping[str, bytes]] = {}
        for number, value in enumerate(VALUES):
            has[f"{number}"] = _encoded(x=value)
            await store.create(new_run(f"{number}", attributes=has[f"{number}"], created=NOW + number))
        wanted = [ranges(sign, [encoded(value)]) for sign in ("=", "!=", "<", "<=", ">", ">=") for value in VALUES]
        wanted += [ranges("in", [encoded("a"), encoded(10), encoded(11)]), ranges("!=", [encoded("a"), encoded("b")])]
        wanted += [both(ranges(">", [encoded(-2)]), ranges("<=", [encoded(10)])), ()]
        for allowed in wanted:
            expected = [
                run for run, its in has.items() if any(low <= its["x"] < high for low, high in allowed)
            ][::-1]  # fmt: skip
            filter = RunFilter(attributes={"x": allowed})
            assert [run.run_id for run in await store.runs(filter)] == expected
            assert await store.count(filter) == len(expected)

    @clause
    async def test_attributes_and_fields_are_found_together(self, store: StoreBackend) -> None:
        """All attributes and all other fields must match; the limit and `after` count matching runs, newest first."""
        if not isinstance(store, AttributeStore):
            return
        has = {}
        for number in range(36):
            parent, workflow = ("p", None)[number % 2], ("flow", "other")[number // 2 % 2]
            has[f"{number}"] = _encoded(tenant="ab"[number % 3 % 2], amount=number % 5)
            run = new_run(
                f"{number}", workflow=workflow, parent=parent, created=NOW + number // 2, attributes=has[f"{number}"]
            )
            await store.create(run)
            status = (RunStatus.FAILED, RunStatus.RUNNING, RunStatus.SUCCEEDED)[number // 4 % 3]
            await store.commit(step(1, run.run_id, state="AB"[number % 2], status=status, at=NOW + 50 + number % 5))
        every = [run._replace(attributes=has[run.run_id]) for run in await store.runs(RunFilter())]
        one, two = ranges("=", [encoded("a")]), ranges(">=", [encoded(2)])
        fields: list[dict[str, Any]] = [{}, {"state": "B"}, {"updated_after": NOW + 51, "created_before": NOW + 12}]
        attributes: list[dict[str, tuple[AttributeRange, ...]]] = [
            {"tenant": one}, {"amount": two}, {"tenant": one, "amount": two}, {"amount": two, "tenant": one, "z": one},
            {"tenant": ranges("in", [encoded("a"), encoded("b")])},
        ]  # fmt: skip
        for more, these, *wanted in product(fields, attributes, (None, "flow"), (None, RunStatus.FAILED), (None, "p")):
            filter = RunFilter(*wanted)._replace(attributes=these, **more)
            expected = [run.run_id for run in every if filter.matches(run)]
            assert await store.count(filter) == len(expected), filter
            await check_pages(store, filter, expected)

    @clause
    async def test_runs_are_counted(self, store: StoreBackend) -> None:
        """`count` is the number of runs that `runs` would return, also without attributes, with limit and `after`."""
        if not isinstance(store, AttributeStore):
            return
        for number in range(12):
            run_id, status = f"{number}", (RunStatus.FAILED, RunStatus.SUCCEEDED)[number % 2]
            await store.create(new_run(run_id, workflow="fo"[number // 6], parent="p" * (number % 3), created=NOW))
            await store.commit(step(1, run_id, state="AB"[number // 3 % 2], status=status, at=NOW + number))
        for fields in (
            {}, {"workflow": "f"}, {"status": RunStatus.FAILED}, {"parent": "p"}, {"state": "A"}, {"limit": 5},
            {"workflow": "o", "status": RunStatus.FAILED, "parent": "pp"}, {"updated_after": NOW + 4}, {"limit": 0},
            {"created_after": NOW}, {"after": (NOW, "5"), "limit": 99}, {"workflow": "none"},
        ):  # fmt: skip
            filter = RunFilter(**fields)
            assert await store.count(filter) == len(await store.runs(filter)), filter

    @clause
    async def test_attributes_change_with_the_commit(self, store: StoreBackend) -> None:
        """A commit replaces all attributes of the run, or with None leaves them. A refused one changes none."""
        if not isinstance(store, AttributeStore):
            return
        for run_id in ("run", "other"):
            await store.create(new_run(run_id, attributes=_encoded(x="old", y=1)))
        await store.commit(step(1))
        for name, value in (("x", "old"), ("y", 1)):
            assert await store.count(_where("=", value, name=name)) == 2
        await store.commit(step(2, attributes=_encoded(x="new", z=1)))
        assert [run.run_id for run in await store.runs(_where("=", "new"))] == ["run"]
        assert [run.run_id for run in await store.runs(_where("=", "old"))] == ["other"]
        assert await store.count(_where("=", 1, name="y")) == await store.count(_where("=", 1, name="z")) == 1
        await raised(ConflictError, store.commit(step(2, attributes=_encoded(x="stale"))))
        assert await store.count(_where("=", "stale")) == 0
        await store.commit(step(3, attributes=_encoded(x="new"), status=RunStatus.FAILED, release=True))
        assert await store.count(_where("=", "new")._replace(status=RunStatus.FAILED)) == 1
        run = await loaded(store)
        assert (run.attributes, run.data) == ({}, {}), "they are not returned"
        assert [run.attributes for run in await store.runs(RunFilter())] == [{}, {}]
        await store.commit(step(4, attributes={}))
        assert [run.run_id for run in await store.runs(_where("!=", "?"))] == ["other"]

    @clause
    async def test_names_of_attributes(self, store: StoreBackend) -> None:
        """`attribute_names` has each name that a run has, with each kind of its values, once."""
        if not isinstance(store, AttributeStore):
            return
        assert list(await store.attribute_names()) == []
        for number, x in enumerate(("a", "b", 1, 2.5, "c", True)):
            await store.create(new_run(f"{number}", attributes=_encoded(x=x, **{"tenant.name-2": "t"})))
        await store.commit(step(1, "5", attributes={"w": b"n2"}))
        found = await store.attribute_names()
        assert sorted(found) == [("tenant.name-2", b"s"), ("w", b"n"), ("x", b"n"), ("x", b"s")]

    @clause
    async def test_attributes_go_with_their_run(self, store: StoreBackend) -> None:
        """A deleted run is not found by its attributes, nor is another one with its id, or in another namespace."""
        if not isinstance(store, AttributeStore):
            return
        for run_id in ("one", "two", "kept"):
            await store.create(new_run(run_id, attributes=_encoded(x="a"), data=values(store, a=1)))
            await store.put_signal(run_id, Signal("1", "go"))
        if isinstance(store, ScopedStore):
            part = store.scoped("part")
            await part.open()
            assert isinstance(part, AttributeStore)
            assert await part.count(_where("=", "a")) == 0
            await part.create(new_run("one", attributes=_encoded(x="part")))
            assert await store.count(_where("=", "part")) == 0
            assert await part.attribute_names() == [("x", b"s")]
            await part.close()
        if not store.capabilities.retention:
            return
        await store.delete("one")
        gone = "one"
        if isinstance(store, PruningStore):
            await store.commit(step(1, "two", status=RunStatus.SUCCEEDED, release=True))
            gone = "two"
            await store.delete_finished(["two"], NOW)
        else:
            await store.delete("two")
        await store.create(new_run(gone, attributes=_encoded(y=1)))
        assert [run.run_id for run in await store.runs(_where("=", "a"))] == ["kept"]
        assert await store.count(_where("!=", "?")) == 1
        await store.delete("kept")
        assert list(await store.attribute_names()) == [("y", b"n")]
