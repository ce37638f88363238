"""Direct access to structlog's context variables, because every step sets and resets some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token, copy_context
from types import NoneType
from typing import Any, TypeAlias

Tokens: TypeAlias = Sequence[Token[Any]]
SENT = "structlog"
"""The key of what is sent along with calls to executors."""
_PLAIN = (str, int, float, NoneType)


def bound_as_text() -> str:
    """Return what is bound as JSON, as far as it is text, numbers, booleans or None."""
    import json  # late: most kernels have no executor

    from structlog.contextvars import get_contextvars

    return json.dumps({key: value for key, value in get_contextvars().items() if isinstance(value, _PLAIN)})


def bound_from_text(text: str) -> AbstractContextManager[None]:
    """Return a context manager in which the values of `bound_as_text` are bound."""
    import json

    from structlog.contextvars import bound_contextvars

    return bound_contextvars(**json.loads(text))


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
