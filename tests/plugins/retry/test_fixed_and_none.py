"""Fixed and NoRetry."""

from __future__ import annotations

from cano_retry import Fixed, NoRetry

ERROR = OSError("down")


def test_fixed_waits_equally_long() -> None:
    """Each retry waits `delay` seconds, and after `retries` of them it gives up."""
    strategy = Fixed(2, 1.5)

    assert [strategy.delay(n, ERROR, 0.0) for n in (1, 2, 3, 4)] == [1.5, 1.5, None, None]


def test_fixed_without_retries() -> None:
    """Zero is a valid number of retries."""
    assert Fixed(0, 1.0).delay(1, ERROR, 0.0) is None


def test_fixed_may_be_immediate() -> None:
    """A delay of 0 seconds means to retry, not to give up."""
    assert Fixed(1, 0).delay(1, ERROR, 0.0) == 0.0


def test_fixed_without_limit() -> None:
    """With retries=None it never runs out of retries."""
    assert Fixed(None, 2).delay(10**9, ERROR, 0.0) == 2.0


def test_no_retry_gives_up() -> None:
    """NoRetry retries no error."""
    error = OSError("down")
    error.retry_after = 1  # type: ignore[attr-defined]  # some client libraries set it like this

    assert [NoRetry().delay(n, error, 0.0) for n in (1, 2)] == [None, None]
