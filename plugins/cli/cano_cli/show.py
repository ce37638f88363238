"""`cano show`: all that a store knows of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import click
from cano import Explanation, Kernel, RunRecord, Transition, is_held

from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.records import HIDDEN, counted, holder_of, record_as_json, status_of, waits_for
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import ask, backend_of, record_of
from cano_cli.tables import show as show_table
from cano_cli.times import iso, when
from cano_cli.values import Values, know, read


class Portrait(NamedTuple):
    """What is shown of a run."""

    record: RunRecord
    now: float
    explanation: Explanation
    data: Values
    payload: Values
    history: list[tuple[Transition, Values]] | None  # None where the store keeps none


@click.command()
@click.argument("run")
@store_option
@click.option("--flow", "flows", multiple=True, metavar="MODULE:FLOW", help="Know the classes of this workflow's data.")
@json_option
@click.pass_context
def show(ctx: click.Context, *, run: str, store: str | None, flows: tuple[str, ...], as_json: bool) -> None:
    """Show all that is known of a run.

    That is: how it stands and why, its data, and its history. A value whose class this process does not know is named
    with the reason; --flow makes the classes known.
    """
    settings: Settings = ctx.obj
    loaded = [load_flow(target) for target in flows]

    async def question(kernel: Kernel) -> Portrait:
        know(kernel, loaded)
        record = await record_of(kernel, run)
        backend = backend_of(kernel)
        lines = await backend.history(run) if backend.capabilities.history else None
        return Portrait(
            record,
            kernel.clock.time(),
            await kernel.explain(run),
            read(kernel, record.data),
            read(kernel, {} if record.payload is None else {"payload": record.payload}),
            None if lines is None else [(line, read(kernel, line.changed)) for line in lines],
        )

    portrait = ask(settings, store, question)
    if as_json:
        click.echo(dumps(_as_json(portrait), indent=2))
        return
    facts = list(_facts(portrait))
    width = max(len(name) for name, _ in facts) + 1
    for name, value in facts:
        click.echo(f"{name + ':':<{width}}  {value}")
    if rows := portrait.data.rows():
        click.echo()
        show_table(["key", "value"], rows)
    click.echo()
    if portrait.history is None:
        click.echo("no history: this store keeps none, so no run can be forked; `cano plugins` lists stores that do")
    else:
        show_table(["step", "time", "status", "state", "changed"], [_line(*line) for line in portrait.history])
    if not flows and (portrait.data.unreadable or portrait.payload.unreadable):
        click.echo("\n--flow MODULE:FLOW makes the classes of a workflow's data known", err=True)


def _facts(portrait: Portrait) -> Iterator[tuple[str, str]]:
    record, now = portrait.record, portrait.now
    status = status_of(record, now).value
    yield "run", record.run_id
    yield "workflow", f"{record.workflow}, version {record.version}"
    if record.parent is not None:
        yield "parent", record.parent
    yield "status", f"{status} in state {record.state} after {counted(record.seq, 'step')}"
    yield "why", str(portrait.explanation)
    if is_held(record, now):
        yield "driven by", holder_of(record, now)
    if record.wait is not None:
        yield "waits", waits_for(record.wait).strip() + f", then {record.wait.then}"
        if record.wait.on_timeout is not None:
            yield "or else", record.wait.on_timeout
    for _, value in portrait.payload.rows():
        yield "payload", value
    if record.error is not None:
        error = record.error
        yield "error", f"{error.get('type')}: {error.get('message')}"
        if error.get("cause"):
            yield "cause", str(error["cause"])
        yield "at", f"state {error.get('state')}, attempt {error.get('attempt')}"
    yield "begun", when(record.created)
    yield "updated", when(record.updated)


def _line(line: Transition, values: Values) -> list[str]:
    changed = [*values.data, *values.unreadable, *(f"-{key}" for key in _removed(line))]
    return [str(line.seq), when(line.at), line.status.value, line.state, ", ".join(changed)]


def _removed(line: Transition) -> list[str]:
    return [key for key in line.removed if not key.startswith(HIDDEN)]


def _as_json(portrait: Portrait) -> dict[str, Any]:
    record, explanation = portrait.record, portrait.explanation
    return {
        **record_as_json(record, portrait.now),
        "definition": record.fingerprint,
        "why": {"reason": explanation.reason.name, "text": str(explanation)},
        "payload": portrait.payload.data.get("payload"),
        "data": portrait.data.data,
        "unreadable": {**portrait.data.unreadable, **portrait.payload.unreadable},
        "history": None
        if portrait.history is None
        else [
            {
                "seq": line.seq,
                "at": iso(line.at),
                "status": line.status.value,
                "state": line.state,
                "changed": values.data,
                "unreadable": values.unreadable,
                "removed": _removed(line),
            }
            for line, values in portrait.history
        ],
    }
