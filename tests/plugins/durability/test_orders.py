"""Lists of runs in other orders, in pages, and by conditions that a store cannot look for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cano import ConfigurationError, FilterError, Kernel, RunFilter, RunRecord, RunStatus
from cano_durability.selecting import listing

ENDED = RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SUCCEEDED
Keep = Callable[..., Any]


async def fill(kernel: Kernel, number: int = 40) -> list[RunRecord]:
    """Store runs of which a fifth is parked and a fifth interrupted; they end in another order than they begin in."""
    await kernel.open()
    assert kernel.backend is not None
    statuses = (*ENDED, RunStatus.PARKED, RunStatus.RUNNING)
    for n in range(number):
        status = statuses[n % 5]
        error = {"type": ("ValueError", "KeyError")[n % 2], "message": "no"} if status is RunStatus.FAILED else None
        await kernel.backend.create(
            RunRecord(
                f"{n:02}", f"flow {n % 3}", "1", "f", "AB"[n % 2], status=status, error=error, parent="pq"[n % 2],
                token=1, created=float(n // 2), updated=float(100 + n * 7 % number),
            )
        )  # fmt: skip
    return list(await kernel.backend.runs(RunFilter()))


@pytest.mark.parametrize("order", ["-created", "created", "-updated", "updated"])
@pytest.mark.parametrize(
    ("where", "more", "ended"),
    [
        ("status in (failed, cancelled)", {}, True),
        ("status in (succeeded, failed) and workflow in ('flow 0', 'flow 2')", {"parent": "p"}, True),
        ("status in (failed, cancelled) and status != failed", {}, True),
        ("status = failed and error in (ValueError, Other)", {}, True),
        ("status != running and state != A and parent in (q, r)", {}, False),
        ("status in (running, interrupted, parked)", {}, False),
        ("state != A", {}, False),
    ],
)
async def test_lists_by_several_values(
    kernel: Kernel, order: str, where: str, more: dict[str, Any], ended: bool
) -> None:
    """Any of several values: one list in any order, whole, and the same in pages that cursors continue."""
    every = await fill(kernel)
    if order.endswith("updated") and not ended:
        with pytest.raises(FilterError, match=f"the order {order} sorts runs by their end; add a status"):
            await kernel.runs(where=where, order=order)
        return
    keeper = await kernel.opened_keeper()
    filter = await keeper.selected(RunFilter(order=order)._replace(**more), where)
    seen = [run._replace(status=RunStatus.INTERRUPTED) if run.status is RunStatus.RUNNING else run for run in every]
    expected = [run.run_id for run in seen if filter.matches(run)]
    expected.sort(key=lambda run_id: next(filter.place_of(run) for run in every if run.run_id == run_id))
    if order.startswith("-"):
        expected.reverse()
    assert expected
    assert [run.run_id for run in await kernel.runs(where=where, order=order, **more)] == expected
    assert await kernel.runs(where=where, order=order, **more).count() == len(expected)
    assert [run.run_id async for run in kernel.runs(where=where, order=order, **more)] == expected
    for limit in (1, 3, len(expected), 99):
        found, cursor, pages = list[RunRecord](), None, 0
        while pages == 0 or cursor is not None:
            page = await kernel.runs(where=where, order=order, limit=limit, after=cursor, **more).page()
            found += page.runs
            assert len(page.runs) == min(limit, len(expected) - pages * limit)
            cursor, pages = page.cursor, pages + 1
        assert [run.run_id for run in found] == expected


async def test_a_cursor_stays_valid_while_runs_change(kernel: Kernel) -> None:
    """The page after a cursor is the same when runs before it, and that at its place, were deleted or have changed."""
    await fill(kernel)
    assert kernel.backend is not None
    wanted: dict[str, Any] = {"status": "failed", "order": "-updated", "limit": 3}
    first = await kernel.runs(**wanted).page()
    second = await kernel.runs(**wanted, after=first.cursor).page()
    assert await kernel.runs(**wanted, after=first.runs[-1]) == list(second.runs)
    for run in first.runs[1:]:
        await kernel.backend.delete(run.run_id)
    new = RunRecord("new", "flow", "1", "f", "A", status=RunStatus.FAILED, created=1.0, updated=999.0)
    await kernel.backend.create(new)
    assert (await kernel.runs(**wanted, after=first.cursor).page()) == second
    assert (await kernel.runs(**wanted).page()).runs[0].run_id == "new"
    assert (await kernel.runs(status="failed", limit=0).page()) == ([], None)


async def test_wrong_orders_and_cursors_are_refused(kernel: Kernel) -> None:
    """An order that is not one, or that the store does not have, and a cursor of another list."""
    await fill(kernel)
    assert kernel.backend is not None
    with pytest.raises(ConfigurationError, match=r"order must be -created, created, -updated or updated, not 'newest'"):
        kernel.runs(order="newest")
    cursor = (await kernel.runs(order="created", limit=1).page()).cursor
    with pytest.raises(FilterError, match="the cursor is of a list in the order 'created', not '-created'"):
        kernel.runs(after=cursor)
    empty, nul = "WyItY3JlYXRlZCIsIDEuMCwgIiJd", "WyItY3JlYXRlZCIsIDEuMCwgInJcdTAwMDAiXQ"  # ids that no run has
    for wrong in ("", "x", "bnVsbA", "é", "WzFd", "WyItY3JlYXRlZCIsIE5hTiwgIngiXQ", empty, nul):
        with pytest.raises(FilterError, match="is not the cursor of a list"):
            kernel.runs(after=wrong)
    kernel.backend.capabilities = kernel.backend.capabilities._replace(orders=False)
    assert len(await kernel.runs(order="-created")) == 40
    with pytest.raises(ConfigurationError, match=r"lists the newest runs first only.*use one with orders"):
        await kernel.runs(order="created")


def test_a_clock_of_whole_seconds_makes_valid_cursors() -> None:
    """A third-party clock may return ints."""
    assert RunFilter().place_at(RunFilter().cursor_at((5, "run"))) == (5.0, "run")


async def test_a_page_reads_few_runs(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition that few runs meet and no index serves ends a page after some pages of the store, with a cursor."""
    every = await fill(kernel)
    assert kernel.backend is not None
    read, honest = list[int](), kernel.backend.runs

    async def counted(filter: RunFilter) -> Any:
        found = await honest(filter)
        read.append(len(found))
        return found

    monkeypatch.setattr(kernel.backend, "runs", counted)
    monkeypatch.setattr(listing, "PAGE", 4)
    monkeypatch.setattr(listing, "_MOST_PAGES", 3)
    found, cursor, sizes = list[RunRecord](), None, list[int]()
    while not sizes or cursor is not None:
        read.clear()
        runs, cursor = await kernel.runs(where="parent != q and state != A", limit=2, after=cursor).page()
        assert sum(read) <= 12
        sizes.append(len(runs))
        found += runs
    assert sizes == [0, 0, 0, 0]
    only = every[-4]._replace(run_id="only", parent="r", state="B")
    await kernel.backend.create(only)
    page = await kernel.runs(where="parent != q and state != A", limit=2).page()
    assert (page.runs, page.cursor is None) == ([], False)
    assert [run.run_id for run in await kernel.runs(where="parent != q and state != A", limit=2)] == ["only"]
