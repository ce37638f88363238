"""Tables for people: drawn by rich on a terminal, otherwise plain aligned columns."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def show(headers: Sequence[str], rows: Sequence[Sequence[str]], *, err: bool = False) -> None:
    """Print a table on stdout, or on stderr if `err` is set.

    Args:
        headers: the titles of the columns.
        rows: the cells of each row.
        err: whether to print on stderr.
    """
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        _drawn(headers, rows, err)
    else:
        for line in plain([headers, *rows]):
            click.echo(line, err=err)


def plain(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _drawn(headers: Sequence[str], rows: Sequence[Sequence[str]], err: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(Text(header), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(stderr=err).print(table)
