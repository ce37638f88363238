"""`cano plugins`: list the installed plugins."""

from __future__ import annotations

from collections.abc import Mapping

import click
from cano import CanoError, Capabilities, Kernel, PluginInfo

from cano_cli.errors import usage_error
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings
from cano_cli.tables import show


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool) -> None:
    """List all installed plugins, including blocked and broken ones, and the capabilities of their stores.

    Plugins are listed in order of registration. A hook calls them from the last to the first, except those that
    request to be called first or last.
    """
    settings: Settings = ctx.obj
    try:
        kernel = settings.kernel()
        found = kernel.load()
        stores = kernel.stores()
    except CanoError as error:
        raise usage_error(error) from error
    if as_json:
        answer = [
            {
                "order": order,
                **info._asdict(),
                "stores": {scheme: each._asdict() for scheme, each in _stores_of(info, stores)},
            }
            for order, info in enumerate(found, 1)
        ]
        click.echo(dumps(answer, indent=2))
    elif not found:
        click.echo("no plugin is installed")
    else:
        rows = [[str(order), *_cells(info, kernel)] for order, info in enumerate(found, 1)]
        show(["order", "name", "distribution", "version", "status", "hooks"], rows)
        rows = [[f"{scheme}:", *_yes_or_no(each)] for info in found for scheme, each in _stores_of(info, stores)]
        if rows:
            click.echo()
            show(["store", *Capabilities._fields], rows)


def _stores_of(info: PluginInfo, stores: Mapping[str, Mapping[str, Capabilities]]) -> list[tuple[str, Capabilities]]:
    """Return the URL schemes that a plugin opens, with the capabilities of their stores."""
    return list(stores.get(info.name, {}).items()) if info.status == "active" else []


def _yes_or_no(capabilities: Capabilities) -> list[str]:
    return ["yes" if each else "no" for each in capabilities]


def _cells(info: PluginInfo, kernel: Kernel) -> list[str]:
    if info.status == "active":
        last = ", ".join(info.hooks) or "none"
    elif info.status == "blocked":
        last = str(kernel.inactive(info.name))
    else:
        last = " ".join(str(info.error).split())
    return [info.name, info.distribution, info.version, info.status, last]
