"""Actions on all runs that match `--where`: a count, a progress bar, and a report."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple, TextIO

import click
from cano import BulkReport, Kernel, Pace

from cano_cli.errors import FAILED
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.records import counted
from cano_cli.safe_lines import line
from cano_cli.settings import Settings
from cano_cli.stores import with_store

Act = Callable[[Kernel, str, Pace], Awaitable[BulkReport]]

_RATE = re.compile(r"(\d+\.?\d*|\.\d+)(?:/([smh]))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, None: 1}
SHOWN = 20
"""The most refused runs, and the most that failed again, that are printed; --json prints all."""


def rate(value: str) -> float:
    """Return the value of an option in runs per second, if it is positive: `50`, `50/s` or `10/m`."""
    match = _RATE.fullmatch(value.strip().lower())
    if match is None or not float(match[1]):
        raise click.BadParameter(
            f"{value!r} is not a positive number of runs per second, or a rate such as 50/s or 10/m"
        )
    return float(match[1]) / _SECONDS[match[2]]


class Many(NamedTuple):
    """The values of the options for many runs.

    Attributes:
        where: the filter, or None.
        most: runs per second, or None.
        dry_run: whether the runs are only counted.
    """

    where: str | None
    most: float | None
    dry_run: bool


def many_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options --where, --dry-run and --rate to a command that acts on one run. It gets them as `many`."""

    @wraps(command)
    def with_many(*, where: str | None, most: float | None, dry_run: bool, **rest: Any) -> None:
        command(many=Many(where, most, dry_run), **rest)

    for option in (
        click.option("--rate", "most", type=rate, metavar="RATE", help="With --where, the highest rate, such as 20/s."),
        click.option("--dry-run", is_flag=True, help="With --where, only count the runs, and name those refused."),
        click.option("--where", metavar="FILTER", help="All runs that match, in place of RUN; see `cano runs --help`."),
    ):
        with_many = option(with_many)
    return with_many


def check_one_or_many(ctx: click.Context, many: Many, one: Mapping[str, Any], *, others: bool = False) -> None:
    """Raise UsageError unless either all values for one run are given, or --where and none of them.

    Args:
        ctx: the command.
        many: the values of the options for many runs.
        one: the values of the arguments for one run, by name.
        others: whether another option is given that only --where allows.
    """
    if many.where is not None:
        if any(value is not None for value in one.values()):
            raise click.UsageError("Name one run, or all that match with --where FILTER, not both.", ctx)
        return
    for name, value in one.items():
        if value is None:
            problem = f"Missing argument {name!r}. Name one run, or all that match with --where FILTER."
            raise click.UsageError(problem, ctx)
    if many.dry_run or many.most is not None or others:
        raise click.UsageError("An option for many runs is given without --where FILTER.", ctx)


def act_on_many(
    ctx: click.Context, many: Many, store: str | None, act: Act, done: str, *, as_json: bool,
    file: TextIO | None = None, **options: Any,
) -> None:  # fmt: skip
    """Count the runs, act on them, and print the report. The exit code is 1 if one was refused, or failed again.

    Args:
        ctx: the command.
        many: the values of the options for many runs, with a filter.
        store: the URL of the store.
        act: the action, called with the filter.
        done: what it does, as in `3 runs resumed`.
        as_json: whether the report is printed as JSON.
        file: where the report is printed; None for stdout.
        options: further arguments of `Kernel`.
    """
    settings: Settings = ctx.obj
    where, most, dry_run = many
    assert where is not None

    async def action(kernel: Kernel) -> BulkReport:
        found = await act(kernel, where, {"dry_run": True})
        refused = f", of which {len(found.refused)} would be refused" if found.refused else ""
        click.echo(f"{counted(found.matched, 'run')} found{refused}", err=True)
        if dry_run or not found.matched:
            return found
        if not sys.stderr.isatty():
            return await act(kernel, where, {"rate": most})
        with click.progressbar(length=found.matched, label=done, file=sys.stderr) as bar:
            pace: Pace = {"rate": most, "progress": lambda report: bar.update(report.matched - bar.pos)}
            return await act(kernel, where, pace)

    report = with_store(settings, store, action, **options)
    if as_json:
        click.echo(dumps({"dry_run": dry_run, **report._asdict()}, indent=2), file=file)
    else:
        _show("refused", report.refused)
        _show("failed again", report.failed)
        would = "would be " if dry_run else ""
        ends = ", ".join(f"{number} {status}" for status, number in sorted(report.outcomes.items()))
        click.echo(f"{counted(report.done, 'run')} {would}{done}{ends and f': {ends}'}", file=file)
    if report.refused or report.failed:
        ctx.exit(FAILED)


def _show(what: str, reasons: Mapping[str, str]) -> None:
    for run_id, reason in list(reasons.items())[:SHOWN]:
        click.echo(f"run {word(run_id)} {what}: {line(reason)}", err=True)
    if len(reasons) > SHOWN:
        click.echo(f"{counted(len(reasons) - SHOWN, 'more run')} {what}; --json names all", err=True)
