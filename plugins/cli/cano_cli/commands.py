"""Commands that plugins add through the hook `cano_commands`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from cano import CanoError, Plugins

from cano_cli.errors import one_line


def add_plugin_commands(app: click.Group, plugins: Plugins, warn: Callable[[str], None]) -> None:
    """Call every plugin's `cano_commands`. If a plugin fails, `app` keeps none of its commands.

    Args:
        app: the `cano` command.
        plugins: the plugins, not yet loaded.
        warn: called with a message for each plugin that fails.
    """
    try:
        plugins.load()
    except CanoError as error:
        warn(f"no plugin is loaded: {error}")
        return
    origins = {info.name: info.origin for info in plugins.infos}
    # one by one, in pluggy's order: in one pluggy call, the first exception would skip the remaining plugins
    for implementation in reversed(plugins.manager.hook.cano_commands.get_hookimpls()):
        before = dict(app.commands)
        try:
            _call(implementation, app)
            _check_not_replaced(app, before)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the warning names the plugin for any exception
            app.commands.clear()
            app.commands.update(before)
            name = implementation.plugin_name
            warn(f"the plugin {name!r} ({origins.get(name, '')}) cannot add its commands: {one_line(error)}")


def _call(implementation: Any, app: click.Group) -> None:
    if implementation.wrapper or implementation.hookwrapper:
        raise TypeError("it implements cano_commands as a wrapper, which cano-cli does not support")
    implementation.function(*([app] if implementation.argnames else []))


def _check_not_replaced(app: click.Group, before: dict[str, click.Command]) -> None:
    replaced = sorted(name for name, command in before.items() if app.commands.get(name) is not command)
    if replaced:
        raise ValueError(f"it replaces existing commands: {', '.join(replaced)}")
