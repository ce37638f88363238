"""Commands that plugins add through the hook `cano_commands`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from cano import CanoError, Kernel

from cano_cli.errors import one_line


def add_plugin_commands(app: click.Group, kernel: Kernel, warn: Callable[[str], None]) -> set[str]:
    """Let every plugin add its commands. One that fails adds none, and breaks nothing.

    Args:
        app: the command.
        kernel: knows the plugins.
        warn: told of each plugin that fails.

    Returns:
        The names of all plugins; none where they cannot be loaded.
    """
    try:
        origins = {info.name: info.origin for info in kernel.load()}
    except CanoError as error:
        warn(f"no plugin is loaded: {error}")
        return set()
    # one by one, in pluggy's order: called as a whole, the first that raises would silence the others
    for implementation in reversed(kernel.hook.cano_commands.get_hookimpls()):
        before = dict(app.commands)
        try:
            _call(implementation, app)
            _check_taken(app, before)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a plugin raises, it is named
            app.commands.clear()
            app.commands.update(before)
            name = implementation.plugin_name
            warn(f"the plugin {name!r} ({origins.get(name, '')}) cannot add its commands: {one_line(error)}")
    return set(origins)


def _call(implementation: Any, app: click.Group) -> None:
    if implementation.wrapper or implementation.hookwrapper:
        raise TypeError("it wraps the hook cano_commands, which cano-cli does not support")
    implementation.function(*([app] if implementation.argnames else []))


def _check_taken(app: click.Group, before: dict[str, click.Command]) -> None:
    taken = sorted(name for name, command in before.items() if app.commands.get(name) is not command)
    if taken:
        raise ValueError(f"it takes the place of commands that were there before: {', '.join(taken)}")
