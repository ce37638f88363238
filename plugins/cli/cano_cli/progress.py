"""The live view on a terminal while runs are executed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cano_cli.recorder import HEADERS, Recorder
from cano_cli.safe_lines import line
from cano_cli.times import show_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from cano_cli.batch import Counts

REFRESHES = 8  # a second
COLOURS = {"running": "cyan", "retrying": "yellow", "done": "green", "failed": "red", "cancelled": "yellow"}


class View:
    """The live view, or a dummy if nothing is shown live."""

    def __init__(self, live: Live | None = None) -> None:
        self._live = live

    def keep_on_screen(self, wanted: bool) -> None:
        """Set whether the view stays on the screen at the end. By default it does."""
        if self._live is not None:
            self._live.transient = not wanted


@contextmanager
def live_view(draw: Callable[[], RenderableType], *, wanted: bool) -> Iterator[View]:
    """Call `draw` repeatedly and show its result on stderr, if `wanted` and stderr is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield View()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(
        console=Console(stderr=True),
        get_renderable=draw,
        refresh_per_second=REFRESHES,
        redirect_stdout=sys.stdout.isatty(),  # output of tasks to a file or pipe must not go to the terminal
    ) as live:
        try:
            yield View(live)
        finally:
            # otherwise rich drops output without a final line end
            sys.stdout.flush()
            sys.stderr.flush()


def state_table(recorder: Recorder) -> RenderableType:
    """Draw the states of one run."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*HEADERS, "", box=box.SIMPLE_HEAD, pad_edge=False)
    for row, cells in zip(list(recorder.rows.values()), recorder.table(), strict=False):
        style = COLOURS.get(row.status, "")
        note = Text(line(row.note), "dim")
        table.add_row(*(Text(line(cell)) for cell in cells[:2]), Text(cells[2], style), *map(Text, cells[3:]), note)
    return table


def batch_progress(batch: Counts) -> RenderableType:
    """Draw the progress of a batch: towards its quota, or else the end of the file, if its size is known."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    total, done = (batch.quota, batch.succeeded) if batch.quota else (batch.lines.total, batch.bytes_done)
    pulse = total is None
    shown = ProgressBar(total=total, completed=done, width=40, pulse=pulse)
    counts = Text.assemble(
        (f"{batch.succeeded} succeeded", "green"),
        (f"  {batch.failed} failed", "red" if batch.failed else "dim"),
        f"  {batch.running} running  {batch.rate:.1f}/s  {show_seconds(batch.seconds)}",
    )
    table = Table.grid(padding=(0, 1))
    table.add_row(shown, counts)
    return table
