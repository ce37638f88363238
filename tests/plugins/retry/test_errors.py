"""Which errors are retried: retry_on and give_up_on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cano_retry import Chain, Exponential, Fixed

MAKERS: dict[str, Callable[..., Fixed | Exponential | Chain]] = {
    "Fixed": lambda **options: Fixed(3, 1.0, **options),
    "Exponential": lambda **options: Exponential(**options),
    "Chain": lambda **options: Chain(Fixed(3, 1.0), **options),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Any:
    """Each strategy that takes the options, with 3 retries."""
    return MAKERS[request.param]


def retried(strategy: Fixed | Exponential | Chain, error: Exception) -> bool:
    """Whether `strategy` grants a first retry after `error`."""
    return strategy.delay(1, error, 0.0) is not None


def test_every_error_by_default(make: Any) -> None:
    """Without retry_on and give_up_on any exception is retried."""
    assert retried(make(), ValueError())
    assert retried(make(), Exception())


def test_retry_on_type(make: Any) -> None:
    """Only errors of that type are retried, subclasses included."""
    strategy = make(retry_on=OSError)

    assert retried(strategy, OSError())
    assert retried(strategy, ConnectionError())
    assert not retried(strategy, ValueError())


def test_retry_on_tuple(make: Any) -> None:
    """Any of the types will do."""
    strategy = make(retry_on=(OSError, KeyError))

    assert retried(strategy, OSError())
    assert retried(strategy, KeyError())
    assert not retried(strategy, ValueError())


def test_retry_on_predicate(make: Any) -> None:
    """A function decides by looking at the error."""
    strategy = make(retry_on=lambda error: "again" in str(error))

    assert retried(strategy, ValueError("once again"))
    assert not retried(strategy, ValueError("never"))


def test_predicate_may_return_anything_true(make: Any) -> None:
    """The function's return value is converted to bool."""
    assert retried(make(retry_on=lambda error: error.args), ValueError("something"))
    assert not retried(make(retry_on=lambda error: error.args), ValueError())


def test_predicate_object(make: Any) -> None:
    """An object that can be called is a predicate."""

    class OnlyNamed:
        def __call__(self, error: Exception) -> bool:
            return bool(error.args)

    assert retried(make(retry_on=OnlyNamed()), ValueError("name"))
    assert not retried(make(retry_on=OnlyNamed()), ValueError())


@pytest.mark.parametrize(
    "give_up_on", [PermissionError, (KeyError, PermissionError), lambda error: type(error) is PermissionError]
)
def test_give_up_on(make: Any, give_up_on: Any) -> None:
    """Errors to give up on are not retried; others are."""
    strategy = make(give_up_on=give_up_on)

    assert not retried(strategy, PermissionError())
    assert retried(strategy, TimeoutError())


def test_give_up_on_has_the_last_word(make: Any) -> None:
    """An error that matches both options is not retried."""
    strategy = make(retry_on=OSError, give_up_on=PermissionError)

    assert retried(strategy, TimeoutError())
    assert not retried(strategy, PermissionError())


def test_predicate_that_raises_is_not_hidden(make: Any) -> None:
    """An exception in a predicate is raised, so that the mistake shows."""
    with pytest.raises(ZeroDivisionError):
        retried(make(retry_on=lambda error: 1 / 0), ValueError())


def test_retry_on_looks_into_groups(make: Any) -> None:
    """A group is retried if all its errors match retry_on, at any depth."""
    strategy = make(retry_on=OSError)
    inner = ExceptionGroup("inner", [ConnectionError(), OSError()])

    assert retried(strategy, inner)
    assert retried(strategy, ExceptionGroup("outer", [TimeoutError(), inner]))
    assert not retried(strategy, ExceptionGroup("mixed", [ValueError(), inner]))


def test_give_up_on_looks_into_groups(make: Any) -> None:
    """A group is given up if any of its errors matches give_up_on, at any depth."""
    strategy = make(give_up_on=ValueError)
    inner = ExceptionGroup("inner", [OSError(), ValueError()])

    assert not retried(strategy, inner)
    assert not retried(strategy, ExceptionGroup("outer", [OSError(), inner]))
    assert retried(strategy, ExceptionGroup("good", [OSError()]))


def test_group_itself_may_be_named(make: Any) -> None:
    """retry_on=ExceptionGroup retries any group, whatever it holds."""
    assert retried(make(retry_on=ExceptionGroup), ExceptionGroup("any", [ValueError()]))
    assert not retried(make(retry_on=ExceptionGroup), ValueError())


def test_predicate_gets_the_group(make: Any) -> None:
    """A predicate is called once, with the raised exception."""
    seen: list[Exception] = []
    group = ExceptionGroup("two", [ValueError(), OSError()])

    def keep(error: Exception) -> bool:
        seen.append(error)
        return True

    assert retried(make(retry_on=keep), group)
    assert seen == [group]


def test_used_up_retries_ask_nobody(make: Any) -> None:
    """If no retry is left, predicates are not called."""
    assert make(retry_on=lambda error: 1 / 0).delay(4, ValueError(), 0.0) is None
