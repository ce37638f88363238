"""The plugin: its entry point leads here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cano import Executor, TaskConfig, hookimpl

if TYPE_CHECKING:
    from cano.engine.ports import BoundState, Caller, Host

CANO_API_VERSION = 2


@hookimpl
def cano_add_hookspecs(pm: Any) -> None:
    """Add the hooks of what is sent along with a call."""
    from cano_remote import hookspecs  # late: only kernels need them

    pm.add_hookspecs(hookspecs)


@hookimpl
def cano_bind_call(state: BoundState, executor: Executor, config: TaskConfig, kernel: Host) -> Caller | None:
    """Return what executes a task in another process."""
    from cano_remote.sending import Sender  # late: most kernels have no executor

    return Sender(state, executor, config, kernel)
