"""The `cano` command and its entry point."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import click
from cano import CanoError, ConfigurationError
from click.core import ParameterSource

from cano_cli.builtin import SUMMARIES, BuiltIn
from cano_cli.commands import add_plugin_commands
from cano_cli.errors import STOPPED, Failed, one_line, usage_error
from cano_cli.notices import Notices
from cano_cli.settings import ACTOR_VARIABLE, NAMESPACE_VARIABLE, Settings

OTHER_NAMES = {"history": "show", "list": "runs", "start": "run", "ls": "runs", "status": "show"}
"""Names that users try for commands, with the names that these have."""
WHOLE = 1000
"""More characters than the first sentence of any command's help."""


class App(click.Group):
    """The `cano` command with its own subcommands and those of installed plugins."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._notices = Notices()

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Add the plugins' commands, then parse the arguments."""
        try:
            # --block decides which plugins add commands, so it is parsed first
            probe = super().make_context(info_name, [*args], parent, **{**extra, "resilient_parsing": True})
            settings = Settings(tuple(probe.params.get("block") or ()), only=_names(probe.params.get("only") or ()))
            with self._notices.showing_warnings():
                add_plugin_commands(self, settings.plugins(), self._notices.show)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(STOPPED) from None
        except ConfigurationError as error:  # an environment variable is wrong
            raise usage_error(error) from error
        context = super().make_context(info_name, args, parent, **extra)
        if context.resilient_parsing:  # a shell asks what may follow: the function `app` is not called
            context.obj = replace(settings, namespace=context.params.get("namespace"))
        return context

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand. For a name that does not exist, the error names the one that was probably meant."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            from cano_cli.finding import nearest  # late: only wrong names need it

            meant = OTHER_NAMES.get(name) or nearest(name, self.commands)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {meant!r}?" if meant else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the first sentences of their helps. Click would cut long ones off."""
        shown = {name: command for name, command in sorted(self.commands.items()) if not command.hidden}
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(WHOLE)) for name, command in shown.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand and report errors that it does not handle itself."""
        try:
            with self._notices.showing_warnings():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            ctx.exit(STOPPED)
        except CanoError as error:  # from a plugin's command
            raise Failed(usage_error(error).message) from error


def make_app() -> App:
    """Create the `cano` command."""

    @click.group(cls=App, name="cano", context_settings={"help_option_names": ["--help", "-h"]})
    @click.option("--block", multiple=True, metavar="NAME", help="Do not load the plugin NAME. May be repeated.")
    @click.option(
        "--only", multiple=True, metavar="A,B", help="Load no other installed plugins than these, and durability."
    )
    @click.option(
        "--actor",
        envvar=ACTOR_VARIABLE,
        show_envvar=True,
        metavar="NAME",
        callback=_for_all_kernels,
        help="Who acts, for the audit of the store. [default: your user and host]",
    )
    @click.option(
        "--namespace",
        envvar=NAMESPACE_VARIABLE,
        show_envvar=True,
        metavar="NAME",
        callback=_checked_namespace,
        help="Work in this part of the store, and in no other. [default: the store itself]",
    )
    @click.option("--raw", is_flag=True, help="Print control characters in ids, data and errors as they are.")
    @click.version_option(package_name="cano-cli", prog_name="cano", message="%(prog)s %(version)s")
    @click.pass_context
    def app(
        ctx: click.Context,
        *,
        block: tuple[str, ...],
        only: tuple[str, ...],
        actor: str | None,
        namespace: str | None,
        raw: bool,
    ) -> None:
        """Run, draw and check Cano workflows, and manage their runs."""
        ctx.obj = Settings(block, raw, _names(only), namespace)

    for name, summary in SUMMARIES.items():
        app.add_command(BuiltIn(name, help=summary))
    return app


def _for_all_kernels(ctx: click.Context, option: click.Parameter, actor: str | None) -> str | None:
    """Set the variable that all kernels read, also those of plugins' commands and of the user's modules."""
    if actor is not None and not ctx.resilient_parsing:
        from cano import Kernel  # late: it imports asyncio

        by_variable = ctx.get_parameter_source(str(option.name)) is ParameterSource.ENVIRONMENT
        try:
            os.environ[ACTOR_VARIABLE] = Kernel(actor=None if by_variable else actor).actor
        except ConfigurationError as error:
            if by_variable:  # the kernel's message names the variable
                raise usage_error(error) from error
            raise click.BadParameter(one_line(error), ctx, option) from error
    return actor


def _checked_namespace(ctx: click.Context, option: click.Parameter, namespace: str | None) -> str | None:
    # click takes an empty variable for a missing one, and the command would work in the store itself
    namespace = os.environ.get(NAMESPACE_VARIABLE) if namespace is None else namespace
    if namespace is not None and not ctx.resilient_parsing:
        from cano import Kernel  # late: it imports asyncio

        try:
            Kernel(namespace=namespace)
        except ConfigurationError as error:
            raise click.BadParameter(one_line(error), ctx, option) from error
    return namespace


def _names(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for each in given for part in each.split(",") if (name := part.strip()))


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit the process with its exit code.

    Args:
        args: the arguments; by default those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # data may contain characters the terminal cannot encode
    with contextlib.suppress(KeyboardInterrupt):
        make_app().main(args, prog_name="cano")  # exits the process
    sys.exit(STOPPED)
