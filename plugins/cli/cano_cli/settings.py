"""The global options, in `ctx.obj`, and the options that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click
from cano import Plugins

from cano_cli.durations import METAVAR, duration

if TYPE_CHECKING:
    from cano import Kernel

AnyCommand = TypeVar("AnyCommand", bound=Any)

STORE_VARIABLE = "CANO_STORE"
ACTOR_VARIABLE = "CANO_ACTOR"
NAMESPACE_VARIABLE = "CANO_NAMESPACE"
EXECUTOR_VARIABLE = "CANO_EXECUTOR"
SHORT_LEASE = 5.0
LONG_LEASE = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options.

    Attributes:
        block: names of plugins that are not loaded.
        only: names of the only installed plugins that are loaded, besides durability; if empty, all are.
        raw: whether texts are printed as they are, with control characters.
        namespace: the part of the store that commands work in; None for the store itself.
        executors: URLs of executors, by the names that `TaskConfig`s give them; None is the command's own process.
    """

    block: tuple[str, ...] = ()
    raw: bool = False
    only: tuple[str, ...] = ()
    namespace: str | None = None
    executors: Mapping[str, str | None] = field(default_factory=dict)

    def kernel(self, *, quiet: bool = False, **options: Any) -> Kernel:
        """Create a kernel with these settings.

        Args:
            quiet: whether the command itself reports failures, so that they are not logged, too, unless that is
                asked for.
            options: further arguments of `Kernel`.
        """
        from cano import Kernel  # late: it imports asyncio, which `cano --help` does not need

        plugins, block = [*self.only, *options.pop("plugins", ())], self._blocked()
        if quiet and "structlog" not in sys.modules and not {"CANO_LOG", "CANO_LOG_LEVELS"} & os.environ.keys():
            block.setdefault("structlog", "not used by this command; set CANO_LOG=warning to use it")
        given = {"namespace": self.namespace, "executor": self.executors or None, **options}
        return Kernel(**given, plugins=plugins, block=block)

    def plugins(self) -> Plugins:
        """Return the plugins that a kernel with these settings loads. They need no kernel to add commands."""
        return Plugins(self.only, discover=True, block=self._blocked(), strict=False)

    def _blocked(self) -> dict[str, str]:
        block = dict.fromkeys(self.block, "blocked by --block; remove it there")
        if self.only:
            import importlib.metadata  # late: it takes long to import

            for point in importlib.metadata.entry_points(group="cano"):
                if point.name not in (*self.only, "durability"):
                    only = ",".join([*self.only, point.name])
                    block.setdefault(point.name, f"not in --only; add it: --only {only}")
        return block


def files(ctx: click.Context, param: click.Parameter, start: str) -> list[Any]:
    """Let the shell offer files as the next word."""
    from click.shell_completion import CompletionItem  # late: rarely needed

    return [CompletionItem(start, type="file")]


def flow_argument(command: AnyCommand) -> AnyCommand:
    """Add the argument MODULE:FLOW, as `target`, and the option --traceback to a command."""
    return click.argument("target", metavar="MODULE:FLOW", shell_complete=files)(traceback_option(command))


def traceback_option(command: AnyCommand) -> AnyCommand:
    """Add the option --traceback to a command."""
    return click.option("--traceback", is_flag=True, help="Print the full traceback of errors.")(command)


def data_option(command: AnyCommand) -> AnyCommand:
    """Add the option --data, which may be repeated, to a command that makes runs."""
    help = "Initial data of the run; may be repeated. A VALUE that is not JSON is a text. FILE contains a JSON object."
    return click.option("--data", multiple=True, metavar="KEY=VALUE|@FILE", help=help)(command)


def store_option(command: AnyCommand) -> AnyCommand:
    """Add the option --store to a command."""
    help = "URL of the store, such as sqlite:///runs.db."
    return click.option("--store", envvar=STORE_VARIABLE, show_envvar=True, metavar="URL", help=help)(command)


def executor_option(command: AnyCommand) -> AnyCommand:
    """Add the option --executor, whose values enter the settings, to a command."""
    help = "Execute the tasks whose config names the executor NAME there; NAME= is this process. Can be repeated."
    return click.option(
        "--executor", multiple=True, metavar="NAME=URL", envvar=EXECUTOR_VARIABLE, show_envvar=True, help=help,
        expose_value=False, callback=_take_executors,
    )(command)  # fmt: skip


def _take_executors(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> None:
    executors: dict[str, str | None] = {}
    for value in values:
        name, sign, url = value.partition("=")
        if not (name and sign) or "://" in name:
            problem = f"{value!r} is not NAME=URL; write the name that TaskConfig(executor=…) has, such as"
            raise click.BadParameter(f"{problem} cpu=process://?workers=2", ctx, option)
        executors[name] = url or None
    if executors:
        ctx.obj = replace(ctx.obj, executors=executors)


def flows_option(help: str) -> Callable[[AnyCommand], AnyCommand]:
    """Make a decorator that adds the option --flow, as `flows`, which may be repeated, to a command."""
    return click.option("--flow", "flows", multiple=True, metavar="MODULE:FLOW", help=help, shell_complete=files)


def follow_option(command: AnyCommand) -> AnyCommand:
    """Add the option --follow to a command."""
    return click.option("--follow", is_flag=True, help="Continue until the run ends.")(command)


def json_option(command: AnyCommand) -> AnyCommand:
    """Add the option --json, as `as_json`, to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def lease_option(seconds: float) -> Callable[[AnyCommand], AnyCommand]:
    """Make a decorator that adds the option --lease, by default `seconds`, to a command that executes runs."""
    help = "Time without a renewal after which another process may take over the run."
    return click.option(
        "--lease", type=duration, default=f"{seconds:g}s", show_default=True, metavar=METAVAR, help=help
    )
