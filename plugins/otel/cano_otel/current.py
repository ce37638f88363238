"""Making a context the current one for a while."""

from __future__ import annotations

from contextvars import Token

from opentelemetry.context import Context


def leave(token: Token[Context] | None) -> None:
    """Make current again what was before, if anything was made current.

    What is torn down late, by the garbage collector say, ends in a context that it was not begun in: there is nothing
    to be taken back there. OpenTelemetry's own `detach` logs an error then.
    """
    if token is not None:
        try:  # noqa: SIM105  # `suppress` takes several times as long, and this is for every step
            token.var.reset(token)
        except ValueError:
            pass
