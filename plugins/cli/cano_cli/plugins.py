"""`cano plugins`: the plugins of this environment."""

from __future__ import annotations

import click
from cano import CanoError, PluginInfo

from cano_cli.errors import refused
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings
from cano_cli.tables import show


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool) -> None:
    """List every plugin that is installed, also those that are blocked or broken.

    The order is that of registration. A hook asks the plugins from the last to the first, except for those that
    ask to come first or last.
    """
    settings: Settings = ctx.obj
    try:
        found = settings.kernel().load()
    except CanoError as error:
        raise refused(error) from error
    if as_json:
        answer = [{"order": order, **info._asdict()} for order, info in enumerate(found, 1)]
        click.echo(dumps(answer, indent=2))
    elif not found:
        click.echo("no plugin is installed")
    else:
        rows = [[str(order), *_cells(info)] for order, info in enumerate(found, 1)]
        show(["order", "name", "distribution", "version", "status", "hooks"], rows)


def _cells(info: PluginInfo) -> list[str]:
    if info.status == "active":
        last = ", ".join(info.hooks) or "none"
    elif info.status == "blocked":
        last = "blocked by --block or CANO_BLOCK"
    else:
        last = " ".join(str(info.error).split())
    return [info.name, info.distribution, info.version, info.status, last]
