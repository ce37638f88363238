"""`cano plugins`: the plugins of this environment."""

from __future__ import annotations

from collections.abc import Mapping

import click
from cano import CanoError, Capabilities, PluginInfo

from cano_cli.errors import refused
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings
from cano_cli.tables import show


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool) -> None:
    """List every plugin that is installed, also those that are blocked or broken, and what their stores promise.

    The order is that of registration. A hook asks the plugins from the last to the first, except for those that
    ask to come first or last.
    """
    settings: Settings = ctx.obj
    try:
        kernel = settings.kernel()
        found = kernel.load()
        stores = {each.plugin_name: each.function() for each in kernel.hook.cano_stores.get_hookimpls()}
    except CanoError as error:
        raise refused(error) from error
    if as_json:
        answer = [
            {"order": order, **info._asdict(), "stores": {scheme: each._asdict() for scheme, each in _of(info, stores)}}
            for order, info in enumerate(found, 1)
        ]
        click.echo(dumps(answer, indent=2))
    elif not found:
        click.echo("no plugin is installed")
    else:
        rows = [[str(order), *_cells(info)] for order, info in enumerate(found, 1)]
        show(["order", "name", "distribution", "version", "status", "hooks"], rows)
        rows = [[f"{scheme}:", *_yes_or_no(each)] for info in found for scheme, each in _of(info, stores)]
        if rows:
            click.echo()
            show(["store", *Capabilities._fields], rows)


def _of(info: PluginInfo, stores: Mapping[str, Mapping[str, Capabilities]]) -> list[tuple[str, Capabilities]]:
    """The stores that a plugin opens, by their URL scheme."""
    return list(stores.get(info.name, {}).items()) if info.status == "active" else []


def _yes_or_no(capabilities: Capabilities) -> list[str]:
    return ["yes" if each else "no" for each in capabilities]


def _cells(info: PluginInfo) -> list[str]:
    if info.status == "active":
        last = ", ".join(info.hooks) or "none"
    elif info.status == "blocked":
        last = "blocked by --block or CANO_BLOCK"
    else:
        last = " ".join(str(info.error).split())
    return [info.name, info.distribution, info.version, info.status, last]
