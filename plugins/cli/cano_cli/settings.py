"""What the commands share: `ctx.obj`, and the arguments that several of them take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from cano import Kernel

AnyCommand = TypeVar("AnyCommand", bound=Any)

STORE_VARIABLE = "CANO_STORE"
SHORT_LEASE = 5.0
LONG_LEASE = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options.

    Attributes:
        block: names of plugins never to load.
    """

    block: tuple[str, ...] = ()

    def kernel(self, **options: Any) -> Kernel:
        """A new kernel under these settings.

        Args:
            options: further arguments of `Kernel`.
        """
        return Kernel(block=self.block, **options)


def flow_argument(command: AnyCommand) -> AnyCommand:
    """Give a command the argument MODULE:FLOW, as `target`, and the option --traceback."""
    return click.argument("target", metavar="MODULE:FLOW")(traceback_option(command))


def traceback_option(command: AnyCommand) -> AnyCommand:
    """Give a command the option --traceback."""
    return click.option("--traceback", is_flag=True, help="Print whole tracebacks of errors.")(command)


def store_option(command: AnyCommand) -> AnyCommand:
    """Give a command that is about runs in a store the option --store."""
    help = "The store, such as sqlite:///runs.db."
    return click.option("--store", envvar=STORE_VARIABLE, show_envvar=True, metavar="URL", help=help)(command)


def json_option(command: AnyCommand) -> AnyCommand:
    """Give a command the option --json, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def lease_option(seconds: float) -> Callable[[AnyCommand], AnyCommand]:
    """Give a command that drives runs the option --lease, which is `seconds` by default."""
    help = "How long a run stays with this process when it falls silent: so long others wait after a crash."
    return click.option("--lease", type=float, default=seconds, show_default=True, metavar="SECONDS", help=help)
