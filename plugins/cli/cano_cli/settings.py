"""What the commands share: `ctx.obj`, and the arguments that several of them take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import click
from cano import Kernel

AnyCommand = TypeVar("AnyCommand", bound=Any)


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
    command = click.option("--traceback", is_flag=True, help="Print whole tracebacks of errors.")(command)
    return click.argument("target", metavar="MODULE:FLOW")(command)
