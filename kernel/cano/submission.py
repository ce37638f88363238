"""The arguments of a call of `Kernel.submit_many`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, NamedTuple

from cano.lanes import Lane


class Submission(NamedTuple):
    """Runs of one workflow that are to be stored, and not executed here. `Kernel.submit_many` says more.

    Attributes:
        rows: the data of each.
        id_of: returns the id of a run for the number of its row, counted from 1.
        view_of: returns a view of data.
        delay: seconds before which none begins, or None.
        on_existing: "return", "same-data" or "reject"; None for new ids.
        lane: the place of each in the queues.
        connection: the user's connection in whose transaction they are stored; None for none.
    """

    rows: Iterable[Any] | AsyncIterable[Any]
    id_of: Callable[[int], str]
    view_of: Callable[[Any], Any]
    delay: float | None
    on_existing: str | None
    lane: Lane
    connection: Any = None
