"""`cano reencrypt`: encrypts the values of a store again."""

from __future__ import annotations

from typing import Any


def add_reencrypt(app: Any) -> None:
    """Add the command `reencrypt`.

    Args:
        app: the `click.Group` of the `cano` command.
    """
    import click
    from cano.safe_text import escaped

    @app.command("reencrypt")  # type: ignore[untyped-decorator]  # of an app that may be any
    @click.option("--store", required=True, envvar="CANO_STORE", show_envvar=True, metavar="URL",
                  help="URL of the store, with codec=encrypt.")  # fmt: skip
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.pass_context
    def reencrypt(ctx: click.Context, store: str, as_json: bool) -> None:
        """Encrypt the values of all runs with the first key, in the newest form.

        Histories, streams and signals that wait are encrypted, too. Runs that a process executes are left out, so
        repeat the command until it reports none; then no value of the store needs another key. It can be interrupted at
        any time. A namespace has values of its own: cano --namespace NAME reencrypt. The exit code is 1 if a run was
        left out.
        """

        import asyncio
        import json

        from cano.engine.ports import new_holder

        async def work() -> tuple[int, int, int, int]:
            runs, values, problems, left = 0, 0, 0, 0
            holder = new_holder()  # so that kernels of this machine notice if this process is killed
            kernel = ctx.obj.kernel(store=store)
            backend, _ = kernel.store_at(store)
            if (exists := getattr(backend, "exists", None)) is not None and not await exists():
                raise click.UsageError(f"there is no such store: {kernel.store_name}")
            async with kernel:
                again = getattr(kernel.backend, "reencrypted", None)
                if again is None:
                    raise click.UsageError("the store is not encrypted; its URL must contain codec=encrypt")
                async for result in again(holder, kernel.clock.time, kernel.actor):
                    runs, values = runs + (result.values > 0), values + result.values
                    left += result.left
                    if result.problem is not None:
                        problems += 1
                        click.echo(escaped(f"run {result.run_id}: {result.problem}"), err=True)
            return runs, values, problems, left

        runs, values, problems, left = asyncio.run(work())
        if as_json:
            answer = {"values": values, "runs": runs, "left_out": problems, "older_keys": left}
            click.echo(json.dumps(answer, indent=2))
            ctx.exit(1 if problems else 0)
        click.echo(f"{values} values of {runs} runs encrypted again" + f", {problems} left out" * (problems > 0))
        if left:
            click.echo(
                f"{left} values in histories, waiting signals and streams need older keys, since this store "
                "cannot replace them; to encrypt these, too, copy the runs to another store: cano migrate-store",
                err=True,
            )
        if problems:
            ctx.exit(1)
