"""Lists and counts of the runs that a filter matches, on any store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cano import RunFilter, RunRecord


async def check_first_page(store: Any, wanted: RunFilter, everything: Iterable[RunRecord]) -> bool:
    """A list's first 30 runs and its count are those of the filter. Return whether there are any.

    Args:
        store: an open store.
        wanted: the filter.
        everything: all runs of the store, with their attributes.
    """
    expected = sorted(filter(wanted.matches, everything), key=wanted.place_of, reverse=not wanted.ascending)
    page = await store.runs(wanted._replace(limit=30))
    assert [run.run_id for run in page] == [run.run_id for run in expected[:30]]
    assert await store.count(wanted) == len(expected)
    return bool(expected)
