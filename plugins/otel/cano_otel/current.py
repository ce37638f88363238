"""`detach`: restores OpenTelemetry's current context."""

from __future__ import annotations

from contextvars import Token

from opentelemetry.context import Context


def detach(token: Token[Context] | None) -> None:
    """Restore the context that was current before `token` was made. Do nothing if `token` is None.

    Do nothing either if this runs in another `contextvars` context than `attach`, as when the garbage collector closes
    a coroutine. OpenTelemetry's own `detach` logs an error then.
    """
    if token is not None:
        try:  # noqa: SIM105  # `suppress` takes several times as long, and every step pays for it
            token.var.reset(token)
        except ValueError:
            pass
