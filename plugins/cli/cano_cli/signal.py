"""`cano signal`: send a signal to a run."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
from cano import Kernel, RunRecord, RunStatus, SignalKey, Signals

from cano_cli.acting import Many, act_on_many, check_one_or_many, many_options
from cano_cli.completing import optional_run_argument, signal_names
from cano_cli.data import json_or_text
from cano_cli.errors import FAILED
from cano_cli.hints import command, word
from cano_cli.jsonable import dumps
from cano_cli.reasons import reason_of
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import backend_of, with_store


@click.command()
@optional_run_argument
@click.argument("name", required=False, shell_complete=signal_names)
@click.argument("payload", metavar="[PAYLOAD]", required=False)
@store_option
@many_options
@click.option("--id", "signal_id", metavar="ID", help="ID of the signal; a second signal with this ID is ignored.")
@click.option("--wait", metavar="TOKEN", help="Answer only the wait with this token; `cano show RUN` prints it.")
@json_option
@click.pass_context
def signal(
    ctx: click.Context,
    *,
    run: str | None,
    name: str | None,
    payload: str | None,
    store: str | None,
    many: Many,
    signal_id: str | None,
    wait: str | None,
    as_json: bool,
) -> None:
    """Send a signal to a run. If the run does not wait for it yet, the store keeps it.

    PAYLOAD is what the next state of the run reads: JSON, or else a text. The exit code is 1 if the run has already
    ended; with --wait, also if that wait is over or answered. With --where, the arguments are NAME [PAYLOAD], and the
    exit code is 1 if any run was refused; --id makes it safe to repeat the command.

    Example: cano signal order-17 approved '{"by": "Ada"}'
    """
    settings: Settings = ctx.obj
    if many.where is not None:
        if run is None or payload is not None or wait is not None:
            raise click.UsageError("With --where, give NAME and [PAYLOAD], but neither RUN nor --wait.", ctx)
        event = run
        content = None if name is None else json_or_text(name, f"the payload {name}", "the payload")
        act_on_many(
            ctx, many, store,
            lambda kernel, where, pace: kernel.signal_many(where, event, content, id=signal_id, **pace), "signalled",
            as_json=as_json,
        )  # fmt: skip
        return
    check_one_or_many(ctx, many, {"RUN": run, "NAME": name})
    assert run is not None
    assert name is not None
    value = None if payload is None else json_or_text(payload, f"the payload {payload}", "the payload")

    async def action(kernel: Kernel) -> tuple[bool, str, str]:
        backend = backend_of(kernel)
        before, record = await backend.signals(run), await backend.load(run)
        sent = await kernel.signal(run, name, value, id=signal_id, wait=wait)
        why = (await reason_of(kernel, run, partial(command, ctx))).text
        if not sent:
            return sent, _refusal(run, await backend.signals(run), record, wait), why
        if signal_id is not None and (False, _seq(wait), signal_id) in _keys(before):
            return sent, f"ignored: id {word(signal_id)} was already sent to run {word(run)}", why
        if wait is not None or (record is not None and _ends_wait(record, before, name)):
            return sent, f"sent {name!r} to run {word(run)}", why
        return sent, f"kept for the next wait for {name!r} of run {word(run)}", why

    sent, effect, why = with_store(settings, store, action)
    if as_json:
        answer: dict[str, Any] = {"run_id": run, "signal": name, "sent": sent, "effect": effect, "why": why}
        click.echo(dumps(answer, indent=2))
    else:
        click.echo(f"{line(effect)}: {line(why)}", err=not sent)
    if not sent:
        ctx.exit(FAILED)


def _seq(wait: str | None) -> int | None:
    return None if wait is None else int(wait.rpartition(":")[2])


def _keys(signals: Signals) -> list[SignalKey]:
    return [*(signal.key for signal in signals.waiting), *signals.consumed_keys]


def _ends_wait(record: RunRecord, before: Signals, name: str) -> bool:
    """Return whether the run waits for that name, and had no answer before."""
    wait = record.wait
    if record.status is not RunStatus.PARKED or wait is None or wait.signal != name or wait.own:
        return False
    answers = [signal for signal in before.waiting if signal.name == name and not signal.own]
    return not any(signal.to in (None, record.seq) for signal in answers)


def _refusal(run: str, signals: Signals, record: RunRecord | None, wait: str | None) -> str:
    begun = record is not None and record.wait_token == wait  # a signal without the token may have come first
    if wait is not None and (begun or any(to == _seq(wait) for _, to, _ in _keys(signals))):
        return f"not sent: wait {word(wait)} of run {word(run)} already has an answer"
    if wait is None or record is None or record.status in (RunStatus.SUCCEEDED, RunStatus.CANCELLED):
        return f"not sent: run {word(run)} has ended"
    return f"not sent: run {word(run)} does not wait at {word(wait)} any more"
