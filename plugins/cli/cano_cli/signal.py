"""`cano signal`: send a signal to a run."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
from cano import Kernel

from cano_cli.data import json_or_text
from cano_cli.errors import FAILED
from cano_cli.hints import command, word
from cano_cli.jsonable import dumps
from cano_cli.reasons import reason_of
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import with_store


@click.command()
@click.argument("run")
@click.argument("name")
@click.argument("payload", metavar="[PAYLOAD]", required=False)
@store_option
@click.option("--id", "signal_id", metavar="ID", help="ID of the signal; a second signal with this ID is ignored.")
@click.option("--wait", metavar="TOKEN", help="Answer only the wait with this token; `cano show RUN` prints it.")
@json_option
@click.pass_context
def signal(
    ctx: click.Context,
    *,
    run: str,
    name: str,
    payload: str | None,
    store: str | None,
    signal_id: str | None,
    wait: str | None,
    as_json: bool,
) -> None:
    """Send a signal to a run. If the run does not wait for it yet, the store keeps it.

    PAYLOAD is what the next state of the run reads: JSON, or else a text. The exit code is 1 if the run has already
    ended; with --wait, also if that wait is over or answered.

    Example: cano signal order-17 approved '{"by": "Ada"}'
    """
    settings: Settings = ctx.obj
    value = None if payload is None else json_or_text(payload, f"the payload {payload}", "the payload")

    async def action(kernel: Kernel) -> tuple[bool, str]:
        sent = await kernel.signal(run, name, value, id=signal_id, wait=wait)
        return sent, (await reason_of(kernel, run, partial(command, ctx))).text

    sent, why = with_store(settings, store, action)
    if as_json:
        answer: dict[str, Any] = {"run_id": run, "signal": name, "sent": sent, "why": why}
        click.echo(dumps(answer, indent=2))
    elif sent:
        click.echo(f"sent {name!r} to run {word(run)}: {line(why)}")
    else:
        over = "has ended" if wait is None else f"has an answer for wait {word(wait)}, or does not wait there any more"
        click.echo(f"not sent: run {word(run)} {over}: {line(why)}", err=True)
    if not sent:
        ctx.exit(FAILED)
