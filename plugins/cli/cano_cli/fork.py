"""`cano fork`: create a run from an earlier step of another run."""

from __future__ import annotations

import click
from cano import Kernel, RunRecord

from cano_cli.acting import Many, act_on_many, check_one_or_many, many_options
from cano_cli.completing import optional_run_argument, steps
from cano_cli.data import read_data
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.records import record_as_json
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import record_of, with_store


@click.command()
@optional_run_argument
@click.argument("seq", required=False, type=click.IntRange(min=0), shell_complete=steps)
@click.argument("new_run", required=False)
@store_option
@many_options
@click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE",
    help="Change the data of NEW_RUN. VALUE is JSON, or else a text. May be repeated; also @FILE.json.",
)  # fmt: skip
@click.option("--unset", "removed", multiple=True, metavar="KEY", help="Remove KEY from it. May be repeated.")
@click.option(
    "--at", metavar="STEP", type=click.IntRange(min=0), help="With --where, the step of each run. [default: last]"
)
@click.option("--suffix", metavar="TEXT", help="With --where, the end of each new ID, after that of its run.")
@json_option
@click.pass_context
def fork(
    ctx: click.Context,
    *,
    run: str | None,
    seq: int | None,
    new_run: str | None,
    store: str | None,
    many: Many,
    given: tuple[str, ...],
    removed: tuple[str, ...],
    at: int | None,
    suffix: str | None,
    as_json: bool,
) -> None:
    """Create a run from an earlier step of another run.

    NEW_RUN gets the state and the data of RUN after its step SEQ; `cano show RUN` lists the steps. `cano resume`
    executes NEW_RUN from there. RUN does not change. With --where and --suffix, each run that matches is forked at its
    last step, or at that of --at, and the exit code is 1 if any was refused.

    Example: cano fork order-17 3 order-17b --set address="12 Elm St" --unset coupon
    """
    settings: Settings = ctx.obj
    check_one_or_many(
        ctx, many, {"RUN": run, "SEQ": seq, "NEW_RUN": new_run}, others=suffix is not None or at is not None
    )
    changes = read_data(given, "--set")
    if many.where is not None:
        end = suffix
        if not end:
            raise click.UsageError("--where needs --suffix TEXT, the end of the new IDs.", ctx)
        act_on_many(
            ctx, many, store,
            lambda kernel, where, pace: kernel.fork_many(
                where, end, changes=changes, removed=removed, seq=at, **pace
            ),
            "forked", as_json=as_json,
        )  # fmt: skip
        return
    assert run is not None
    assert seq is not None
    assert new_run is not None

    async def action(kernel: Kernel) -> tuple[RunRecord, float, list[str]]:
        new: list[str] = []
        if changes:
            view = await kernel.get(run)
            new = [key for key in changes if key not in view.data and key not in view.unreadable]
        await kernel.fork(run, seq, new_run, changes=changes, removed=removed)
        return await record_of(kernel, new_run), kernel.clock.time(), new

    record, now, new = with_store(settings, store, action)
    if as_json:
        click.echo(dumps(record_as_json(record, now), indent=2))
    else:
        click.echo(f"run {word(new_run)} created in state {line(record.state)}, from run {word(run)} after step {seq}")
        if new:
            click.echo(f"--set added keys that run {word(run)} does not have: {', '.join(map(line, new))}", err=True)
