"""Filters of runs that are written as text."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cano import Condition, ConfigurationError, FilterError, Kernel, RunStatus
from cano_durability.selecting.where import parsed

NOW = 1_800_000_000.0
HOUR = 3600.0


def midnight(days: int) -> float:
    """The begin of the local day `days` days ago, in wall-clock seconds."""
    day = datetime.fromtimestamp(NOW) - timedelta(days)
    return datetime(day.year, day.month, day.day).astimezone().timestamp()


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("workflow = trip", {"workflow": "trip"}),
        ("workflow='my trip'", {"workflow": "my trip"}),
        ("workflow = 'it''s \"me\"' and state=\"a'b\"", {"workflow": 'it\'s "me"', "state": "a'b"}),
        ("status = failed AND error = ValueError", {"status": RunStatus.FAILED, "error": "ValueError"}),
        ("STATUS = Parked", {"status": RunStatus.PARKED}),
        ("parent = 'and' and state = PAY", {"parent": "and", "state": "PAY"}),
        ("updated > 2h ago", {"updated_after": NOW - 2 * HOUR}),
        ("updated>2h30m ago and updated < 90 s ago", {"updated_after": NOW - 2.5 * HOUR, "updated_before": NOW - 90}),
        ("created < 1.5 days ago", {"created_before": NOW - 36 * HOUR}),
        ("created < 2 weeks 1 day ago", {"created_before": NOW - 15 * 24 * HOUR}),
        ("created > 2026-11-30T09:00+01:00", {"created_after": datetime(2026, 11, 30, 8, tzinfo=UTC).timestamp()}),
        ("created > '2026-11-30 08:00z'", {"created_after": datetime(2026, 11, 30, 8, tzinfo=UTC).timestamp()}),
        ("updated <= 2h ago", {"updated_before": math.nextafter(NOW - 2 * HOUR, math.inf)}),
        ("updated >= 2h ago", {"updated_after": math.nextafter(NOW - 2 * HOUR, -math.inf)}),
        (
            "status != failed and state IN (A, 'B C')",
            {
                "others": (
                    ("status", Condition("!=", RunStatus.FAILED)),
                    ("state", Condition("in", ("A", "B C"))),
                )
            },
        ),
        ("status in (failed)", {"others": (("status", Condition("in", (RunStatus.FAILED,))),)}),
        (
            "updated > Yesterday and updated < today",
            {"updated_after": midnight(1), "updated_before": midnight(0)},
        ),
        ("created > 2026-11-30 08:00", {"created_after": datetime(2026, 11, 30, 8).astimezone().timestamp()}),
    ],
)
def test_a_filter_is_read(text: str, fields: dict[str, Any]) -> None:
    """Fields, operators, quotes, relative times, and times that are local unless they have an offset."""
    assert parsed(text, NOW) == fields


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 0, "a condition is missing, such as status = failed; known are workflow, status, state, error, parent"),
        ("status = failed and", 19, "a condition is missing"),
        ("and status = failed", 0, "a condition is missing"),
        ("status = faild", 9, r"there is no such status \(did you mean 'failed'\?\); known are running, parked"),
        ("status = 'fail", 9, "the quote has no end"),
        ("status", 6, "status is compared by = or != or in, as in status = failed"),
        ("status failed", 7, "status is compared by ="),
        ("status < failed", 7, "status is compared by = or != or in"),
        ("statsu", 6, r"statsu \(did you mean 'status'\?\) is compared by = or != or < or <= or > or >= or in"),
        ("'status' = failed", 0, "a condition begins with a field or a search attribute; known are workflow"),
        ("updated = 2h ago", 8, "updated is compared by < or <= or > or >=, as in updated > 2h ago"),
        ("updated in (2h ago)", 8, "updated is compared by < or <= or >"),
        ("state in A", 9, "write a list in parentheses"),
        ("state in (A, B", 14, "write a list in parentheses"),
        ("state in (A B)", 12, "write a list in parentheses"),
        ("state in ()", 10, "write a list in parentheses"),
        ("state in (A,)", 12, "write a list in parentheses"),
        ("state in (", 10, "write a list in parentheses"),
        ("status in (failed, parkd)", 19, r"there is no such status \(did you mean 'parked'\?\)"),
        ("state = (A)", 8, "quote a value that has signs"),
        ("updated > soon", 10, "write a time as 2h ago, 1d12h ago, yesterday, 2026-11-30, or 2026-11-30T09:00"),
        ("updated > 2 moons ago", 10, "write a time as 2h ago"),
        ("updated > 0001-01-01", 10, "write a time as 2h ago"),
        ("status = and state = A", 9, "a value is missing"),
        ("workflow = my trip", 14, "join conditions with `and`; quote a value that has spaces"),
        ("status = failed or state = A", 16, "join conditions with `and`; quote a value that has spaces"),
        ("state = <", 8, "quote a value that has signs"),
        ("updated > < 2h ago", 10, "write a time as 2h ago"),
        ("status = failed or parked", 16, "join conditions with `and`"),
        ("state = a=b", 9, "quote a value that has signs"),
        ("state = A and state = B", 14, "state is given twice"),
    ],
)
def test_a_wrong_filter_is_refused(text: str, position: int, problem: str) -> None:
    """The error names the column, what is there, and what would be right."""
    with pytest.raises(FilterError, match=f"is wrong at column {position + 1}, .*{problem}") as caught:
        parsed(text, NOW)
    assert (caught.value.text, caught.value.position) == (text, position)


async def test_arguments_of_lists_are_checked() -> None:
    """Wrong kinds are refused at once; a text when the runs are asked for, and what is given twice, too."""
    wrong: Any = datetime(2026, 11, 30)
    async with Kernel() as kernel:
        for given in ({"created_after": wrong}, {"updated_before": "now"}, {"state": ""}, {"where": ""}):
            with pytest.raises(ConfigurationError, match=next(iter(given))):
                kernel.runs(**given)
        with pytest.raises(FilterError, match=r"column 1, 'stat': there is no field .*\(did you mean 'state'"):
            await kernel.runs(where="stat = a")
        with pytest.raises(ConfigurationError, match="attributes must be a mapping"):
            kernel.runs(attributes=wrong)
        with pytest.raises(ConfigurationError, match="both state= and where= give a condition") as twice:
            [run async for run in kernel.runs(state="A", where="state = B")]
        assert twice.value.key == "state"
