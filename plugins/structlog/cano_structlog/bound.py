"""Direct access to structlog's context variables, because every step sets and resets some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar, Token, copy_context
from typing import Any, TypeAlias

Tokens: TypeAlias = Sequence[Token[Any]]


def structlog_variables(keys: Iterable[str]) -> tuple[ContextVar[Any], ...]:
    """Return the context variables that `bind_contextvars` uses for these keys. `...` in one means "not bound"."""
    from structlog.contextvars import bind_contextvars

    # in a copied context, so that nothing stays bound
    tokens = copy_context().run(lambda: bind_contextvars(**dict.fromkeys(keys)))
    return tuple(token.var for token in tokens.values())


def reset(tokens: Tokens) -> None:
    """Restore the values from before `tokens` were made.

    Do nothing if this runs in another `contextvars` context than the tokens' own, as when the garbage collector closes
    a coroutine.
    """
    try:
        for token in tokens:
            token.var.reset(token)
    except ValueError:
        pass
