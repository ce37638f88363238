"""`cano stream`: follow what the steps of a run emit, in whatever process it executes."""

from __future__ import annotations

from typing import Any

import click
from cano import Kernel, StreamItem
from cano.safe_text import escaped

from cano_cli.completing import run_argument
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings, follow_option, json_option, store_option
from cano_cli.stores import with_store


@click.command()
@run_argument
@click.argument("channel", required=False)
@store_option
@follow_option
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="OFFSET", help="Show only the items after it.")
@json_option
@click.pass_obj
def stream(
    settings: Settings, *, run: str, channel: str | None, store: str | None, follow: bool, after: int, as_json: bool
) -> None:
    """Show what the steps of a run have emitted to a channel. Without CHANNEL, list the run's channels.

    A line that begins with "superseded" names the offsets of earlier items that a failed attempt has emitted.
    --json prints one object for each item, on a line of its own.
    """

    async def action(kernel: Kernel) -> None:
        attached = await kernel.attach(run)
        if channel is None:
            for name in await attached.channels():
                click.echo(dumps(name) if as_json else escaped(name))
            return
        found = False
        async for item in attached.stream(channel, after, follow=follow):
            found = True
            click.echo(dumps(_as_json(item)) if as_json else _line(item))

        if not found and channel not in (names := await attached.channels()):
            others = f"its channels are {', '.join(map(repr, names))}" if names else "it has no channels"
            click.echo(f"run {word(run)} has emitted nothing to channel {channel!r}; {others}", err=True)

    with_store(settings, store, action)


def _line(item: StreamItem) -> str:
    if item.superseded:
        spans = (f"{some.start}-{some.stop - 1}" if len(some) > 1 else f"{some.start}" for some in item.superseded)
        return f"{item.offset:>6}  superseded: {', '.join(spans)}"
    return escaped(f"{item.offset:>6}  {item.value if isinstance(item.value, str) else dumps(item.value, ascii=False)}")


def _as_json(item: StreamItem) -> dict[str, Any]:
    if item.superseded:
        return {"offset": item.offset, "superseded": [[some.start, some.stop - 1] for some in item.superseded]}
    return {"offset": item.offset, "value": item.value}
