"""FromTenacity: tenacity's objects in Cano's loop."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from typing import Any

import pytest
import tenacity as t
from cano import ConfigurationError, RetryStrategy
from cano_retry import Chain, Fixed, RetryBudget
from cano_retry.tenacity import FromTenacity
from tenacity.asyncio import retry_if_exception as async_retry_if_exception

ERROR = OSError("down")


class Busy(Exception):
    """An error with `retry_after`, such as a server's answer."""

    retry_after = 7


def delays(strategy: RetryStrategy, number: int, error: Exception = ERROR) -> list[float | None]:
    """Return the delays of `strategy` after the first `number` failures."""
    return [strategy.delay(attempt, error, 0.0) for attempt in range(1, number + 1)]


def test_wait_chain() -> None:
    """wait_chain goes by the number of the attempt."""
    wait = t.wait_chain(t.wait_fixed(1), t.wait_fixed(3), t.wait_fixed(9))

    assert delays(FromTenacity(stop=t.stop_after_attempt(5), wait=wait), 5) == [1, 3, 9, 9, None]


def test_waits_that_add_up() -> None:
    """Two waits that were added are both waited."""
    strategy = FromTenacity(stop=t.stop_never, wait=t.wait_exponential(max=60) + t.wait_random(0, 0.5))

    for attempt, least in enumerate([1, 2, 4, 8, 16, 32, 60, 60], start=1):
        delay = strategy.delay(attempt, ERROR, 0.0)
        assert delay is not None
        assert least <= delay <= least + 0.5


def test_stop_after_attempt_or_delay() -> None:
    """stop_a | stop_b gives up at the earlier of the two, by Cano's elapsed time."""
    strategy = FromTenacity(stop=t.stop_after_attempt(3) | t.stop_after_delay(10))

    assert strategy.delay(1, ERROR, 0.0) == 0
    assert strategy.delay(2, ERROR, 9.999999) == 0
    assert strategy.delay(2, ERROR, 10.0) is None
    assert strategy.delay(3, ERROR, 0.0) is None


@pytest.mark.parametrize("elapsed", [0.1, 0.3, 1e-9, 123.456, 1e6 / 3])
def test_elapsed_is_exact(elapsed: float) -> None:
    """A time limit is exact, however long the machine has been up."""
    assert FromTenacity(stop=t.stop_after_delay(elapsed)).delay(1, ERROR, elapsed) is None
    assert FromTenacity(stop=t.stop_after_delay(elapsed)).delay(1, ERROR, math.nextafter(elapsed, 0)) == 0


def test_stop_before_delay() -> None:
    """A stop that looks at the coming pause sees it."""
    strategy = FromTenacity(stop=t.stop_before_delay(10), wait=t.wait_fixed(4))

    assert strategy.delay(1, ERROR, 5.0) == 4
    assert strategy.delay(1, ERROR, 6.0) is None


def test_retry_by_type() -> None:
    """Errors that tenacity's retry rules out are given up."""
    strategy = FromTenacity(stop=t.stop_never, retry=t.retry_if_exception_type(OSError))

    assert strategy.delay(1, ConnectionError(), 0.0) == 0
    assert strategy.delay(1, ValueError(), 0.0) is None


def test_retries_that_combine() -> None:
    """Retries may be combined with | and &."""
    message = t.retry_if_exception_message(match="again")
    strategy = FromTenacity(stop=t.stop_never, retry=t.retry_if_exception_type(OSError) | message)

    assert strategy.delay(1, ValueError("again"), 0.0) == 0
    assert strategy.delay(1, ValueError("never"), 0.0) is None


def test_everything_is_retried_at_once_by_default() -> None:
    """With `stop` alone each error is retried, with no pause."""
    assert delays(FromTenacity(stop=t.stop_after_attempt(3)), 3, ValueError()) == [0, 0, None]


def test_results_are_not_there() -> None:
    """Objects that look at results retry nothing."""
    strategy = FromTenacity(stop=t.stop_never, retry=t.retry_if_result(lambda result: result is None))

    assert strategy.delay(1, ERROR, 0.0) is None


def test_try_again() -> None:
    """raise TryAgain is retried whatever `retry` says, but not longer than `stop` allows."""
    strategy = FromTenacity(stop=t.stop_after_attempt(2), retry=t.retry_never)

    assert delays(strategy, 2, t.TryAgain()) == [0, None]
    assert delays(strategy, 1) == [None]


def test_plain_functions() -> None:
    """Plain functions of the state are accepted and see what tenacity's loop would show them."""
    seen: list[t.RetryCallState] = []

    def wait(retry_state: t.RetryCallState) -> float:
        seen.append(retry_state)
        return 2.5

    strategy = FromTenacity(stop=lambda state: state.upcoming_sleep != 2.5, wait=wait)

    assert strategy.delay(4, ERROR, 60.0) == 2.5
    (state,) = seen
    assert state.attempt_number == 4
    assert state.outcome is not None
    assert state.outcome.exception() is ERROR
    assert (state.fn, state.args, state.kwargs) == (None, (), {})
    assert state.seconds_since_start == 60.0
    assert state.start_time <= time.monotonic() - 60.0


def test_each_attempt_has_its_own_state() -> None:
    """The strategy keeps no state between calls, so runs do not mix."""
    strategy = FromTenacity(stop=t.stop_after_attempt(3), wait=t.wait_incrementing(1, 1))

    assert [strategy.delay(n, ERROR, 0.0) for n in (3, 1, 2, 1)] == [None, 1, 2, 1]


def test_retry_after_is_obeyed() -> None:
    """The error's `retry_after` replaces `wait`, and `stop` sees it."""
    strategy = FromTenacity(stop=t.stop_before_delay(10), wait=t.wait_fixed(1))

    assert strategy.delay(1, Busy(), 0.0) == 7
    assert strategy.delay(1, Busy(), 3.0) is None
    assert FromTenacity(stop=t.stop_never, after_hint=False).delay(1, Busy(), 0.0) == 0


def test_own_options() -> None:
    """retry_on, give_up_on, max_elapsed and budget work as everywhere."""
    limited = FromTenacity(
        stop=t.stop_never, wait=t.wait_fixed(1), retry_on=OSError, give_up_on=TimeoutError, max_elapsed=10
    )

    assert limited.delay(1, ERROR, 9.0) == 1
    assert limited.delay(1, ERROR, 9.5) is None
    assert limited.delay(1, ValueError(), 0.0) is None
    assert limited.delay(1, TimeoutError(), 0.0) is None
    assert delays(FromTenacity(stop=t.stop_never, budget=RetryBudget(1, 0)), 2) == [0, None]


def test_last_in_a_chain() -> None:
    """In a chain it comes last, and counts its attempts from 1."""
    adapted = FromTenacity(stop=t.stop_after_attempt(2), wait=t.wait_fixed(5))

    assert delays(Chain(Fixed(1, 1), adapted), 3) == [1, 5, None]
    with pytest.raises(ConfigurationError, match=r"strategies\[0\]"):
        Chain(adapted, Fixed(1, 1))


def test_is_a_value() -> None:
    """It satisfies the protocol, cannot be changed, and is equal to one made of the same objects."""
    stop, wait = t.stop_after_attempt(2), t.wait_fixed(5)
    strategy = FromTenacity(stop=stop, wait=wait)

    assert isinstance(strategy, RetryStrategy)
    assert strategy == FromTenacity(stop=stop, wait=wait)
    assert hash(strategy) == hash(FromTenacity(stop=stop, wait=wait))
    assert strategy != FromTenacity(stop=stop)
    assert FromTenacity(stop=stop) == FromTenacity(stop=stop)
    with pytest.raises(AttributeError, match="FromTenacity cannot be changed"):
        strategy.stop = t.stop_never


def test_repr() -> None:
    """The `repr` shows the tenacity objects."""

    def endless(state: t.RetryCallState) -> bool:
        return False

    text = repr(FromTenacity(stop=endless, retry=t.retry_never, max_elapsed=3))

    assert text.startswith("FromTenacity(stop=test_repr.<locals>.endless, retry=<tenacity.retry._retry_never")
    assert text.endswith("max_elapsed=3.0)")


async def asynchronous(state: Any) -> Any:
    """A function that would always count as true."""


@pytest.mark.parametrize("name", ["stop", "wait", "retry"])
@pytest.mark.parametrize("value", [5, "x", t.wait_none, asynchronous, async_retry_if_exception(asynchronous)])
def test_bad_objects(name: str, value: Any) -> None:
    """An argument that is not callable, or a coroutine function, is refused with its name."""
    given: dict[str, Any] = {"stop": t.stop_never, name: value}
    with pytest.raises(ConfigurationError, match=f"^{name} must be a {name} object of tenacity's") as caught:
        FromTenacity(**given)

    assert str(caught.value).endswith(f", not {value!r}")


def test_stop_is_required() -> None:
    """There is no default for when to stop."""
    make: Any = FromTenacity
    with pytest.raises(TypeError, match="stop"):
        make()
    with pytest.raises(ConfigurationError, match=r"^stop must be"):
        make(stop=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("retry_on", int), ("give_up_on", ()), ("max_elapsed", 0), ("after_hint", 1), ("budget", 5)],
)
def test_bad_options(name: str, value: Any) -> None:
    """The options are checked as everywhere."""
    given: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        FromTenacity(stop=t.stop_never, **given)


@pytest.mark.parametrize("pause", [-1, math.nan, math.inf, None, "1"])
def test_wait_that_is_no_time(pause: Any) -> None:
    """A wait that does not return seconds raises an error that names the wait."""

    def broken(state: t.RetryCallState) -> Any:
        return pause

    with pytest.raises(ConfigurationError, match=r"return value of .*broken.* must be a finite number of seconds"):
        FromTenacity(stop=t.stop_never, wait=broken).delay(1, ERROR, 0.0)


WITHOUT_TENACITY = """
import sys
sys.modules["tenacity"] = None
import cano_retry, cano_retry._plugin
try:
    import cano_retry.tenacity
except ModuleNotFoundError as error:
    print(error.name, error)
"""


def test_without_tenacity() -> None:
    """Without tenacity all other modules work, and the adapter's error names the package to install."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_TENACITY], capture_output=True, text=True, check=True)

    assert done.stdout == "tenacity cano_retry.tenacity needs tenacity: pip install 'cano-retry[tenacity]'\n"
