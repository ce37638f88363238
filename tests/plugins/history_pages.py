"""Pages of histories, on the stores that read a page alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from cano.testing.contract_base import new_run, step


async def check_pages_are_read_alone(
    store: Any, monkeypatch: pytest.MonkeyPatch, place: str, unpack: Callable[..., Any], last: int
) -> list[int]:
    """Each page of a history of `last` transitions is right. Return how many entries were unpacked for each.

    Args:
        store: an open store.
        monkeypatch: replaces the function at `place`.
        place: the name by which the store calls `unpack`.
        unpack: the function that unpacks an entry.
        last: the number of transitions.
    """
    await store.create(new_run())
    for seq in range(1, last + 1):
        await store.commit(step(seq, changed={"n": b"%d" % seq}))
    read, counts = Mock(wraps=unpack), list[int]()
    monkeypatch.setattr(place, read)
    for after in (None, 0, last // 2 + 1, last - 5):
        read.reset_mock()
        page = await store.history_page("run", after, 5)
        first = 0 if after is None else after + 1
        assert [entry.seq for entry in page] == [*range(first, first + 5)]
        counts.append(read.call_count)
    return counts
