"""structlog's context variables, set and taken back directly: a step does it every time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar, Token, copy_context
from typing import Any, TypeAlias

Tokens: TypeAlias = Sequence[Token[Any]]


def structlog_variables(keys: Iterable[str]) -> tuple[ContextVar[Any], ...]:
    """The variables in which `bind_contextvars` keeps these keys; `...` in one stands for a key that is not bound."""
    from structlog.contextvars import bind_contextvars

    # in a context of its own, of which nothing is left
    tokens = copy_context().run(lambda: bind_contextvars(**dict.fromkeys(keys)))
    return tuple(token.var for token in tokens.values())


def take_back(tokens: Tokens) -> None:
    """Bind again what was bound before.

    What is torn down late, by the garbage collector say, ends in a context that it was not begun in: there is nothing
    to be taken back there.
    """
    try:
        for token in tokens:
            token.var.reset(token)
    except ValueError:
        pass
