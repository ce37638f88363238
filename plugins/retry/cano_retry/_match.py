"""Matching of errors against `retry_on` and `give_up_on`.

Types are also matched against the errors in an exception group, since a task group wraps its tasks' errors. A group is
retried if all its errors match `retry_on`, and never if any of them matches `give_up_on`: one error that is not worth a
retry would only occur again. A function gets the exception as it was raised, even if it is a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from cano import ConfigurationError, PermanentStoreError, ValidationError
from cano.options import refuse

from cano_retry._check import function

Match = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]

PROGRAMMING_ERRORS = (
    AssertionError, AttributeError, ConfigurationError, ImportError, NameError, NotImplementedError,
    PermanentStoreError, SyntaxError, TypeError, ValidationError,
)  # fmt: skip
"""Errors of the program, which the next attempt would only repeat. `PermanentStoreError` has `KeyNotFoundError`."""

_KINDS = (type, tuple)  # to build `type | tuple` for each error takes longer than the rest
_ALLOWED = "an exception type, a non-empty tuple of them, or a plain function error -> bool"


def check_match(name: str, match: Match | None) -> None:
    """Raise ConfigurationError unless `match` is a valid value of `retry_on` or `give_up_on`."""
    if isinstance(match, type | tuple):
        kinds = match if isinstance(match, tuple) else (match,)
        # the kernel never asks a strategy about a BaseException, so naming one is a mistake
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            refuse(name, match, _ALLOWED)
    elif match is not None:
        function(name, match, _ALLOWED)


def is_retryable(error: Exception, retry_on: Match | None, give_up_on: Match | None) -> bool:
    """Return whether `error` may be retried; `give_up_on` takes precedence over `retry_on`."""
    if retry_on is None:
        ordinary = _is_ordinary(type(error))  # type: ignore[arg-type]  # mypy thinks that classes cannot be hashed
        if not ordinary and _matches(error, PROGRAMMING_ERRORS, any):
            return False
    elif not _matches(error, retry_on, all):
        return False
    return give_up_on is None or not _matches(error, give_up_on, any)


@lru_cache(maxsize=256)
def _is_ordinary(kind: type) -> bool:
    """Return whether no error of this class is a programming error or a group, which may contain one."""
    return not issubclass(kind, (*PROGRAMMING_ERRORS, ExceptionGroup))


def _matches(error: Exception, match: Match, combine: Callable[[Iterable[bool]], bool]) -> bool:
    if not isinstance(match, _KINDS):
        return bool(match(error))
    if issubclass(type(error), match):  # faster than `isinstance`, which looks up `__class__` for each of the types
        return True
    if isinstance(error, ExceptionGroup):
        return combine(_matches(inner, match, combine) for inner in error.exceptions)
    return False
