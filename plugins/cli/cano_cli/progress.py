"""A live view of a run's states."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cano_cli.recorder import HEADERS, Recorder

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

REFRESHES = 8  # a second
COLOURS = {"running": "cyan", "retrying": "yellow", "done": "green", "failed": "red", "cancelled": "yellow"}


class View:
    """The live view, if there is one."""

    def __init__(self, live: Live | None = None) -> None:
        self._live = live

    def keep(self, wanted: bool) -> None:
        """Whether it stays on the screen when the run has ended. By default it does."""
        if self._live is not None:
            self._live.transient = not wanted


@contextmanager
def live_view(recorder: Recorder, *, wanted: bool) -> Iterator[View]:
    """Show the states on stderr while a run goes on, if that is `wanted` and stderr is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield View()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(
        console=Console(stderr=True),
        get_renderable=lambda: _drawn(recorder),
        refresh_per_second=REFRESHES,
        redirect_stdout=sys.stdout.isatty(),  # what tasks print into a file or pipe must get there
    ) as live:
        try:
            yield View(live)
        finally:
            # what was printed last, without a line end, would be lost
            sys.stdout.flush()
            sys.stderr.flush()


def _drawn(recorder: Recorder) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*HEADERS, "", box=box.SIMPLE_HEAD, pad_edge=False)
    for row, cells in zip(list(recorder.rows.values()), recorder.table(), strict=False):
        style = COLOURS.get(row.status, "")
        table.add_row(*map(Text, cells[:2]), Text(cells[2], style), *map(Text, cells[3:]), Text(row.note, "dim"))
    return table
