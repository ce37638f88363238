"""Tables for people: drawn by rich on a terminal, otherwise plain aligned columns. No word is ever broken."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from cano_cli.safe_lines import line

NARROWEST = 20
"""The fewest cells of a terminal in which the texts of the last column are wrapped."""

LONGEST = 200
"""The most characters of a cell that a terminal gets, if a hint says how to see it whole."""


def show(headers: Sequence[str], rows: Sequence[Sequence[str]], *, err: bool = False, hint: str | None = None) -> None:
    """Print a table on stdout, or on stderr if `err` is set.

    On a terminal, the texts of the last column are wrapped between words. If the table is too wide all the same, each
    row is printed as a block of lines, one for each cell.

    Args:
        headers: the titles of the columns.
        rows: the cells of each row.
        err: whether to print on stderr.
        hint: how to see long cells whole. A terminal gets their beginnings, and then this text.
    """
    rows = [[*map(line, row)] for row in rows]
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        if hint is not None and any(len(cell) > LONGEST for row in rows for cell in row):
            rows = [[cell if len(cell) <= LONGEST else cell[: LONGEST - 1] + "…" for cell in row] for row in rows]
        else:
            hint = None
        _drawn(headers, rows, err)
        if hint is not None:
            click.echo(f"{hint}; they are cut after {LONGEST} characters", err=True)
    else:
        for text in plain([headers, *rows]):
            click.echo(text, err=err)


def plain(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _drawn(headers: Sequence[str], rows: Sequence[Sequence[str]], err: bool) -> None:
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=err)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    *fixed, last = zip(headers, *rows, strict=True)
    for column in fixed:
        table.add_column(Text(column[0]), no_wrap=True, min_width=max(map(cell_len, column)))
    longest = max(cell_len(word) for cell in last for word in cell.split() or [""])
    table.add_column(Text(last[0]), min_width=max(longest, min(NARROWEST, max(map(cell_len, last)))))
    for row in rows:
        table.add_row(*map(Text, row))
    needed = console.measure(table, options=console.options.update_width(sys.maxsize)).minimum
    if needed <= console.width:
        console.print(table)
        return
    for number, row in enumerate(rows):
        if number:
            click.echo(err=err)
        for text in plain([(f"{header}:", cell) for header, cell in zip(headers, row, strict=True) if cell]):
            click.echo(text, err=err)
