"""Which errors `retry_on` and `give_up_on` mean.

Types look into exception groups, since a task group wraps whatever its tasks raise: an attempt is repeated
if each error in the group is one to retry, and given up if any of them is one to give up on. A group that
mixes errors worth a retry with others would only fail again. A predicate gets what the attempt raised, as
it is, a group too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cano_retry._check import function, refuse

Match = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]

_ALLOWED = "an exception type, a non-empty tuple of them, or a plain function error -> bool"


def check_match(name: str, match: Match | None) -> None:
    """Raise ConfigurationError unless `match` is something that `retry_on` may be."""
    if isinstance(match, type | tuple):
        kinds = match if isinstance(match, tuple) else (match,)
        # BaseExceptions never reach a strategy: to name one would promise what cannot happen
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            refuse(name, match, _ALLOWED)
    elif match is not None:
        function(name, match, _ALLOWED)


def worth_retrying(error: Exception, retry_on: Match | None, give_up_on: Match | None) -> bool:
    """Whether the two allow another attempt after `error`; `give_up_on` has the last word."""
    if retry_on is not None and not _matches(error, retry_on, all):
        return False
    return give_up_on is None or not _matches(error, give_up_on, any)


def _matches(error: Exception, match: Match, combine: Callable[[Iterable[bool]], bool]) -> bool:
    if not isinstance(match, type | tuple):
        return bool(match(error))
    if isinstance(error, match):
        return True
    if isinstance(error, ExceptionGroup):
        return combine(_matches(inner, match, combine) for inner in error.exceptions)
    return False
