"""`cano show`: show a run with its data and history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import click
from cano import Appended, Kernel, RunRecord, RunView, Transition, is_held, read_history
from cano.redaction import redacted

from cano_cli.bars import bar
from cano_cli.completing import run_argument
from cano_cli.hints import command, filter_value, word
from cano_cli.jsonable import dumps, jsonable
from cano_cli.loading import load_flow
from cano_cli.reasons import Reason, reason_of
from cano_cli.records import counted, holder_of, late_as_json, record_as_json, status_of, waits_for
from cano_cli.safe_lines import line, lines
from cano_cli.settings import Settings, flows_option, json_option, store_option
from cano_cli.stores import backend_of, record_of, with_store
from cano_cli.tables import show as show_table
from cano_cli.times import clock, iso, when
from cano_cli.values import Values, decode_values, register_types

CHILDREN_SHOWN = 5
"""How many children are named."""


class RunDetails(NamedTuple):
    """A run as `cano show` prints it."""

    record: RunRecord
    now: float
    reason: Reason
    data: Values
    payload: Values
    view: RunView
    history: list[tuple[Transition, Values]] | None  # None if the store keeps no history


@click.command()
@run_argument
@store_option
@flows_option("Decode data with the classes of this workflow, and check that it could continue the run.")
@click.option(
    "--redact", is_flag=True, envvar="CANO_REDACT", show_envvar=True,
    help='Print "[redacted]" in place of passwords, tokens and the like.',
)  # fmt: skip
@click.option("--after", metavar="STEP", type=click.IntRange(0), help="Show the history after this step only.")
@click.option("--limit", metavar="N", type=click.IntRange(0), help="Show at most N entries of the history, the oldest.")
@click.option("--full", is_flag=True, help="Show long values whole, on a terminal too.")
@json_option
@click.pass_context
def show(
    ctx: click.Context,
    *,
    run: str,
    store: str | None,
    flows: tuple[str, ...],
    redact: bool,
    after: int | None,
    limit: int | None,
    full: bool,
    as_json: bool,
) -> None:
    """Show a run: its status and the reason for it, its data, and its history.

    If a value cannot be decoded because its class is unknown, the reason is shown instead. --flow makes the classes
    of a workflow known. --after and --limit show a part of a long history.
    """
    clean: Callable[[Any], Any] = redacted if redact else lambda value: value
    settings: Settings = ctx.obj
    loaded = [load_flow(target) for target in flows]

    async def action(kernel: Kernel) -> RunDetails:
        register_types(kernel, loaded)
        record = await record_of(kernel, run)
        backend = backend_of(kernel)
        decode = partial(decode_values, kernel, advise=bool(flows))  # without a flow, the last line has the advice
        history = await read_history(backend, run, after, limit) if backend.capabilities.history else None
        return RunDetails(
            record,
            kernel.clock.time(),
            await reason_of(kernel, run, partial(command, ctx), flows),
            decode(record.data),
            decode({} if record.payload is None else {"payload": record.payload}),
            await kernel.get(run),
            None if history is None else [(entry, decode(entry.changed)) for entry in history],
        )

    details = with_store(settings, store, action)
    if as_json:
        click.echo(dumps(clean(jsonable(_as_json(details))), indent=2))
        return
    facts = [(name, clean(value)) for name, value in _facts(details, clean)]
    width = max(len(name) for name, _ in facts) + 1
    for name, value in facts:
        click.echo(f"{name + ':':<{width}}  {line(value)}")
    if (error := details.view.error) is not None and error.traceback is not None:
        click.echo(
            f"\n  {lines(clean(error.traceback), '  ')}"
        )  # indented: no line of a message looks like one of ours
    if rows := details.data.rows(clean):
        click.echo()
        show_table(["key", "value"], rows, hint=None if full else "--full shows long values whole")
    click.echo()
    if details.history is None:
        click.echo("no history: this store keeps none, so runs cannot be forked; `cano plugins` lists stores that do")
    else:
        show_table(["step", "time", "status", "state", "changed"], [_cells(*each) for each in details.history])
    if not flows and (details.data.unreadable or details.payload.unreadable):
        click.echo("\nto read these values, name their workflow: --flow MODULE:FLOW", err=True)


def _facts(details: RunDetails, clean: Callable[[Any], Any]) -> Iterator[tuple[str, str]]:
    now, view = details.now, details.view
    record = details.record._replace(wait=view.wait)  # the real one: the record's ends when the run becomes late
    status = status_of(record, now).value
    yield "run", word(record.run_id)
    yield "workflow", f"{record.workflow}, version {record.version}"
    if record.lane is not None:
        queue, priority, key = record.lane
        yield "queue", f"{queue}, priority {priority}" + (f", key {key!r}" if key else "")
    if record.parent is not None:
        yield "parent", word(record.parent)
    if view.children:
        yield "children", _children(view)
    if view.origin is not None:
        yield "forked", f"from run {word(view.origin[0])} after step {view.origin[1]}"
    where = "" if record.wait is not None else f" in state {record.state}"
    yield "status", f"{status}{where} after {counted(record.seq, 'step')}"
    yield "why", details.reason.text
    for late in view.late:
        yield "late", f"{late}; reported {when(late.at)}"
    if view.progress is not None:
        yield "progress", bar(view.progress)
    for name, value in clean(dict(view.attributes)).items():
        yield f"attribute {name}", line(str(value))
    if is_held(record, now):
        yield "held by", holder_of(record, now)
    if record.wait is not None:
        yield "waits", waits_for(record.wait).strip()
        if record.wait_token is not None:
            yield "token", word(record.wait_token)
    if view.signals:
        yield "signals", f"{', '.join(map(repr, view.signals))} (no wait has taken them yet)"
    for _, value in details.payload.rows(clean):
        yield "payload", value
    if record.error is not None:
        error = record.error
        yield "error", f"{error.get('type')}: {error.get('message')}"
        if error.get("cause"):
            yield "cause", str(error["cause"])
        yield "at", f"state {error.get('state')}, attempt {error.get('attempt')}"
    yield "created", when(record.created)
    yield "updated", when(record.updated)


def _children(view: RunView) -> str:
    """Return the first children, and if there are more, the command that lists all."""
    shown = ", ".join(map(word, view.children[:CHILDREN_SHOWN]))
    if len(view.children) <= CHILDREN_SHOWN:
        return shown
    listing = command(click.get_current_context(), "runs", "--where", f"parent = {filter_value(view.run_id)}")
    return f"{shown} and more; to list them: {listing}"


def _cells(entry: Transition, values: Values) -> list[str]:
    changed = [*values.data, *values.unreadable, *(f"-{key}" for key in entry.removed)]
    return [str(entry.seq), clock(entry.at), entry.status.value, entry.state, ", ".join(changed)]


def _as_json(details: RunDetails) -> dict[str, Any]:
    record, view, (explanation, why) = details.record, details.view, details.reason
    return {
        **record_as_json(record._replace(wait=view.wait), details.now),
        "definition": record.fingerprint,
        "lane": None if record.lane is None else record.lane._asdict(),
        "forked_from": None if view.origin is None else dict(zip(("run_id", "seq"), view.origin, strict=True)),
        "why": {"reason": explanation.reason.name, "text": why},
        "signals": list(view.signals),
        "children": list(view.children),
        "late": late_as_json(view.late),
        "progress": None if view.progress is None else view.progress._asdict(),
        "attributes": dict(view.attributes),
        "traceback": None if view.error is None else view.error.traceback,
        "payload": details.payload.data.get("payload"),
        "data": details.data.data,
        "unreadable": {**details.data.unreadable, **details.payload.unreadable},
        "history": None
        if details.history is None
        else [
            {
                "seq": entry.seq,
                "at": iso(entry.at),
                "status": entry.status.value,
                "state": entry.state,
                "changed": {key: value for key, value in values.data.items() if value.__class__ is not Appended},
                "appended": {key: value for key, value in values.data.items() if value.__class__ is Appended},
                "unreadable": values.unreadable,
                "removed": list(entry.removed),
            }
            for entry, values in details.history
        ],
    }
