"""Cron expressions: what they mean, and which are refused."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime

import pytest
from cano import ConfigurationError
from cano_scheduler._cron import Cron

BEGIN = calendar.timegm((2026, 1, 1, 0, 0, 0))  # a Thursday


def first(expression: str, count: int = 1) -> list[str]:
    """The first matches in 2026."""
    cron, at, found = Cron(expression), BEGIN - 1, []
    for _ in range(count):
        at = cron.next(at)
        found.append(datetime.fromtimestamp(at, UTC).strftime("%a %m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("*/20 * * * *", ["Thu 01-01 00:00:00", "Thu 01-01 00:20:00", "Thu 01-01 00:40:00"]),
        ("0 9 * * *", ["Thu 01-01 09:00:00", "Fri 01-02 09:00:00"]),
        ("0 0 9 * * *", ["Thu 01-01 09:00:00", "Fri 01-02 09:00:00"]),
        ("30 0 9 * * *", ["Thu 01-01 09:00:30"]),
        ("*/30 * * * * *", ["Thu 01-01 00:00:00", "Thu 01-01 00:00:30"]),
        ("@daily", ["Thu 01-01 00:00:00", "Fri 01-02 00:00:00"]),
        ("@hourly", ["Thu 01-01 00:00:00", "Thu 01-01 01:00:00"]),
        ("@weekly", ["Sun 01-04 00:00:00"]),
        ("@monthly", ["Thu 01-01 00:00:00", "Sun 02-01 00:00:00"]),
        ("0 0 * * 0", ["Sun 01-04 00:00:00", "Sun 01-11 00:00:00"]),
        ("0 0 * * 7", ["Sun 01-04 00:00:00", "Sun 01-11 00:00:00"]),
        ("0 0 * * SUN", ["Sun 01-04 00:00:00"]),
        ("0 0 * * 7-7", ["Sun 01-04 00:00:00", "Sun 01-11 00:00:00"]),
        ("0 0 * * 6-7", ["Sat 01-03 00:00:00", "Sun 01-04 00:00:00", "Sat 01-10 00:00:00"]),
        ("0 0 * * fri-mon", ["Fri 01-02 00:00:00", "Sat 01-03 00:00:00", "Sun 01-04 00:00:00", "Mon 01-05 00:00:00"]),
        ("0 0 * JUN MON", ["Mon 06-01 00:00:00"]),
        ("53-53 12-12 * * *", ["Thu 01-01 12:53:00", "Fri 01-02 12:53:00"]),
        ("0 0 13 * FRI", ["Fri 01-02 00:00:00", "Fri 01-09 00:00:00", "Tue 01-13 00:00:00"]),
        ("0 0 L 2 *", ["Sat 02-28 00:00:00"]),
        ("0 0 1-31 * FRI", ["Thu 01-01 00:00:00", "Fri 01-02 00:00:00", "Sat 01-03 00:00:00"]),
        ("0 0 */2 * MON", ["Mon 01-05 00:00:00", "Mon 01-19 00:00:00", "Mon 02-09 00:00:00"]),
        ("0 0 15 * */3", ["Sun 02-15 00:00:00", "Sun 03-15 00:00:00", "Wed 04-15 00:00:00"]),
        ("0 0 0 */10 * 5-7", ["Sun 01-11 00:00:00", "Sat 01-31 00:00:00", "Sun 02-01 00:00:00"]),
        ("0 0 */2 2 *", ["Sun 02-01 00:00:00", "Tue 02-03 00:00:00"]),
    ],
)
def test_an_expression_matches(expression: str, matches: list[str]) -> None:
    """Of six fields the first is the second. Day and weekday are alternatives, unless one begins with `*`."""
    assert first(expression, len(matches)) == matches


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "must be a cron expression"),
        (None, "must be a cron expression"),
        ("* * * *", "4 field"),
        ("* * * * * * 2026", "7 field"),
        ("61 * * * *", "out of range"),
        ("a b c d e", "not acceptable"),
        ("0 0 30 2 *", "failed to find next date"),
        ("@reboot", "Exactly"),
        ("H * * * *", "random time"),
        ("R(0-10) 1 * * *", "random time"),
        ("0 0 1W * *", "nearest weekday"),
        ("*/0 * * * *", "not acceptable"),
    ],
)
def test_a_wrong_expression_is_refused(expression: str, why: str) -> None:
    """What is no expression, never matches, or means something else in each process, is refused by its field's name."""
    with pytest.raises(ConfigurationError, match=r"^expr=") as refused:
        Cron(expression)
    assert why in str(refused.value)
