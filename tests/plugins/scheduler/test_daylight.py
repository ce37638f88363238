"""Promise 12: daylight-saving changes follow the stated policy, in every zone.

The second implementation is cronsim. Its rule is classic cron's: an expression whose minute or hour begins with `*`
goes by elapsed time; any other happens at the first moment after a gap, and at the first of two equal wall times.
That is what `gap` and `fold` are when left out.
"""

from __future__ import annotations

import calendar
import os
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cano import ConfigurationError
from cano_scheduler._cron import Cron
from cano_scheduler._daylight import Fold, Gap, ZonedCron
from cano_scheduler._defining import cron_trigger
from cano_scheduler._zone import zone_of
from cronsim import CronSim
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st


@cache
def changes(zone: str) -> list[int]:
    """The moments between 2020 and 2035 at which the zone's clocks are changed."""
    info = ZoneInfo(zone)

    def offset(at: int) -> timedelta | None:
        return datetime.fromtimestamp(at, UTC).astimezone(info).utcoffset()

    def first_other(low: int) -> int:
        return low + bisect_left(range(43_200), True, key=lambda second: offset(low + second) != offset(low))

    lows = range(calendar.timegm((2020, 1, 1, 0, 0, 0)), calendar.timegm((2036, 1, 1, 0, 0, 0)), 43_200)
    return [first_other(low) for low in lows if offset(low) != offset(low + 43_200)]


@cache
def zones() -> list[str]:
    """Every zone whose clocks are changed between 2020 and 2035, most of them under several names."""
    looked = [zone for zone in sorted(available_timezones()) if zone not in ("localtime", "Factory")]
    days = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=10 * number) for number in range(585)]
    offsets = {zone: {day.astimezone(ZoneInfo(zone)).utcoffset() for day in days} for zone in looked}
    return [zone for zone in looked if len(offsets[zone]) > 1]


def field(low: int, high: int) -> st.SearchStrategy[str]:
    """One field."""
    number = st.integers(low, high)
    span = st.tuples(number, number).map(sorted).map(lambda ends: f"{ends[0]}-{ends[1]}")
    one = number.map(str) | span
    steps = st.integers(1, max(2, high // 2)).map(lambda step: f"*/{step}")
    return st.just("*") | one | steps | st.lists(one, min_size=1, max_size=3).map(",".join)


expressions = st.builds(
    lambda *parts: " ".join(parts),
    field(0, 59), field(0, 23) | field(0, 4),
    st.sampled_from(["*", "*/2", "*/10"]) | st.integers(1, 28).map(str), st.just("*") | st.integers(1, 12).map(str),
    st.sampled_from(["*", "*/3"]) | st.integers(0, 6).map(str),
)  # fmt: skip


@st.composite
def near_a_change(draw: st.DrawFn) -> tuple[str, int]:
    """A zone, and a moment up to five hours before its clocks are changed."""
    zone = draw(st.sampled_from(zones()))
    return zone, draw(st.sampled_from(changes(zone))) - draw(st.integers(1, 5 * 3600))


def following(cron: ZonedCron, at: int, count: int) -> list[int]:
    """The matches after a moment."""
    found = []
    for _ in range(count):
        at = cron.next(at)
        found.append(at)
    return found


def made(expression: str, zone: str, gap: Gap | None = None, fold: Fold | None = None) -> ZonedCron:
    """The expression in the zone."""
    return cron_trigger(expression, zone, gap, fold)._cron


slow = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=1000 if os.environ.get("CANO_SOAK") == "1" else 100,
)


HALF_HOUR = ("Australia/LHI", "Australia/Lord_Howe")


@slow
@given(near_a_change(), expressions)
@example(("America/New_York", calendar.timegm((2026, 3, 8, 4, 0, 0))), "30 2 * * *")
@example(("America/New_York", calendar.timegm((2026, 11, 1, 4, 0, 0))), "30 1 * * *")
@example(("Australia/Lord_Howe", calendar.timegm((2026, 4, 4, 10, 0, 0))), "*/10 1 * * *")
@example(("Antarctica/Troll", calendar.timegm((2026, 3, 28, 23, 0, 0))), "15 2,3 * * *")
def test_without_a_policy_it_agrees_with_a_second_implementation(near: tuple[str, int], expression: str) -> None:
    """Left out, `gap` and `fold` are classic cron's rule, as cronsim has it."""
    zone, at = near
    # where clocks change by half an hour, cronsim leaves out the first half of an hour on the day after
    assume(zone not in HALF_HOUR or expression == "*/10 1 * * *")
    simulated = CronSim(expression, datetime.fromtimestamp(at, ZoneInfo(zone)))
    expected = [int(next(simulated).timestamp()) for _ in range(12)]
    assert following(made(expression, zone), at, 12) == expected


@slow
@given(
    near_a_change(),
    expressions | st.sampled_from(["* * * * *", "*/30 * * * * *", "0 0 L * *", "0 0 * * 5#2", "30 1-3 * * *"]),
    st.sampled_from(["next", "skip", "shift"]),
    st.sampled_from(["first", "last", "both"]),
    st.integers(1, 60),
    st.integers(0, 3600),
)
def test_matches_are_counted_without_visiting_them(
    near: tuple[str, int], expression: str, gap: Gap, fold: Fold, number: int, more: int
) -> None:
    """The count of matches in any range, and the n-th last of them, are those of going through them."""
    zone, at = near
    trigger = cron_trigger(expression, zone, gap, fold)
    found = following(trigger._cron, at, number)
    until = found[-1] + more
    while (match := trigger._cron.next(found[-1])) <= until:
        found.append(match)
    micros = at * 1_000_000 + 1, until * 1_000_000 + 1
    assert trigger.count(*micros, 0) == len(found)
    for last in (1, number, len(found)):
        assert trigger.latest(last, *micros, 0) == found[-last] * 1_000_000
    assert trigger.latest(len(found) + 1, *micros, 0) is None


@slow
@given(
    near_a_change(),
    expressions,
    st.sampled_from(["next", "skip", "shift"]),
    st.sampled_from(["first", "last", "both"]),
)
def test_a_policy_is_obeyed(near: tuple[str, int], expression: str, gap: Gap, fold: Fold) -> None:
    """Strictly increasing in UTC; each is a wall time that exists and matches, or stands for one in a gap, as told."""
    zone, at = near
    info, cron = ZoneInfo(zone), Cron(expression)
    found = following(made(expression, zone, gap, fold), at, 12)
    assert found == sorted(set(found))
    assert found[0] > at
    for moment in found:
        local = datetime.fromtimestamp(moment, UTC).astimezone(info)
        offset = zone_of(zone).offset
        wall = moment + offset(moment)
        twice = [t for o in {offset(moment - 86_400), offset(moment + 86_400)} if wall == (t := wall - o) + offset(t)]
        if cron.next(wall - 1) == wall and (fold == "both" or len(twice) < 2 or local.fold == (fold == "last")):
            continue  # a time that exists, and of two equal ones the right one
        jumps = [t for t in changes(zone) if moment - 86_400 <= t <= moment and offset(t) > offset(t - 1)]
        assert gap != "skip"
        assert jumps, f"{local} neither matches {expression!r} nor follows a gap"
        start, width = jumps[-1], offset(jumps[-1]) - offset(jumps[-1] - 1)
        missing = cron.next(start + offset(start - 1) - 1)
        assert missing < start + offset(start - 1) + width, f"nothing in the gap before {local} matches {expression!r}"
        if gap == "next":
            assert moment == start
        else:
            assert cron.next(moment + offset(start - 1) - 1) == moment + offset(start - 1)


@slow
@given(near_a_change(), expressions)
def test_nothing_that_exists_once_is_left_out(near: tuple[str, int], expression: str) -> None:
    """Under `both` and `skip` the matches are those of every second of the zone's wall clock, no more and no less."""
    zone, at = near
    found, offset = following(made(expression, zone, "skip", "both"), at, 8), zone_of(zone).offset
    until = min(found[-1], at + 8 * 3600)
    cron = Cron(expression)
    minutes = range(at - at % 60 + 60, until + 1, 60)
    expected = [t for t in minutes if cron.next((wall := t + offset(t)) - 1) == wall]
    assert [t for t in found if t <= until] == expected


NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("gap", "expected"),
    [("next", ["03:00:00-04:00"]), ("shift", ["03:15:00-04:00", "03:45:00-04:00"]), ("skip", [])],
)
def test_a_gap_follows_its_policy(gap: Gap, expected: list[str]) -> None:
    """On 8 March 2026 New York has no 02:15 and no 02:45."""
    at = calendar.timegm((2026, 3, 8, 5, 0, 0))
    found = following(made("15,45 2 * * *", "America/New_York", gap), at, 2)
    local = [datetime.fromtimestamp(t, NEW_YORK) for t in found]
    assert [t.isoformat()[11:] for t in local if t.day == 8] == expected


@pytest.mark.parametrize(
    ("fold", "expected"),
    [
        ("first", ["01:30:00-04:00"]),
        ("last", ["01:30:00-05:00"]),
        ("both", ["01:30:00-04:00", "01:30:00-05:00"]),
        (None, ["01:30:00-04:00"]),
    ],
)
def test_a_fold_follows_its_policy(fold: Fold | None, expected: list[str]) -> None:
    """On 1 November 2026 New York has 01:30 twice; croniter itself would fire at both."""
    at = calendar.timegm((2026, 11, 1, 4, 0, 0))
    found = following(made("30 1 * * *", "America/New_York", fold=fold), at, 2)
    local = [datetime.fromtimestamp(t, NEW_YORK) for t in found]
    assert [t.isoformat()[11:] for t in local if t.day == 1] == expected


def test_every_half_hour_goes_on_through_a_repeated_hour() -> None:
    """An expression that counts elapsed time is not held up by the hour that comes twice."""
    at = calendar.timegm((2026, 11, 1, 4, 0, 0))
    found = following(made("*/30 * * * *", "America/New_York"), at, 8)
    assert found == [at + 1800 * number for number in range(1, 9)]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("0 0 * * *", "Mars/Olympus", None, None), "tz"),
        (("0 0 * * *", "Europe", None, None), "tz"),
        (("0 0 * * *", "../etc", None, None), "tz"),
        (("0 0 * * *", 1, None, None), "tz"),
        (("0 0 * * *", "UTC", "later", None), "gap"),
        (("0 0 * * *", "UTC", None, "twice"), "fold"),
        (("0 0 31 2 *", "UTC", None, None), "expr"),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple[str, str, Gap | None, Fold | None], name: str) -> None:
    """Zone and policies are checked when the schedule is added."""
    with pytest.raises(ConfigurationError, match=f"^{name}"):
        cron_trigger(*arguments)
