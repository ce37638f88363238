"""The hooks of cano-remote: what plugins send along with a call, such as the trace that it is a part of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from cano import Step, hookspec


@hookspec
def cano_send_context(step: Step) -> Mapping[str, str]:
    """Return texts that the process that executes a call gets, too.

    Called for each call, in the process of the run, and in the context of the step.

    Args:
        step: the step that makes the call.
    """
    raise NotImplementedError


@hookspec
def cano_receive_context(context: Mapping[str, str]) -> AbstractContextManager[object] | None:
    """Return a context manager in which a call is executed, or None.

    Called for each call, in the process that executes it; `current_step()` is the step that made the call.

    Args:
        context: all that plugins returned to `cano_send_context`.
    """
    raise NotImplementedError
