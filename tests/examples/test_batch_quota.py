"""The batch ends when it should, and the numbers add up."""

from __future__ import annotations

import heapq
import math
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import pytest

OutputOf = Callable[..., list[str]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


def call(seed: int, number: int) -> tuple[float, str]:
    """Return the minutes that a number takes, and its result."""
    minutes = 0.0
    for attempt in (1, 2, 3):
        random = Random(f"{seed} {number} 1 {attempt}")
        minutes += random.uniform(0.1, 0.5) + (attempt > 1)
        if random.random() >= 0.4:
            break
    else:
        return minutes, "Busy"
    random = Random(f"{seed} {number} 2 1")
    if random.random() < 0.5:
        return minutes + random.uniform(0.1, 0.3), "Refused"
    return minutes + random.uniform(2, 10), random.choice(["yes", "no", "do not know"])


class Evening(NamedTuple):
    """The result of the survey."""

    ended_by: str
    minutes: float
    said: Counter[str]


def evening(quota: int, callers: int, minutes: float, seed: int) -> Evening:
    """Simulate the survey without a workflow."""
    said: Counter[str] = Counter()
    calls = [call(seed, number) for number in range(1000)]
    waiting = iter(calls)
    under_way = sorted(next(waiting) for _ in range(callers))
    while under_way:
        now, what = heapq.heappop(under_way)
        if now > minutes:
            return Evening("duration", minutes, said)
        said[what] += 1
        answered = said.total() - said["Busy"] - said["Refused"]
        if answered == quota:
            return Evening("quota", now, said)
        if answered + 1000 - said.total() < quota:
            return Evening("quota unreachable", now, said)
        if (following := next(waiting, None)) is not None:
            heapq.heappush(under_way, (now + following[0], following[1]))
    return Evening("all", math.nan, said)


@pytest.mark.parametrize(
    ("quota", "callers", "hours", "seed", "ended_by"),
    [
        (200, 30, 4, 1, "quota"),
        (200, 1, 1000, 1, "quota"),
        (1, 1000, 4, 3, "quota"),
        (200, 30, 0.5, 1, "duration"),
        (900, 30, 4, 2, "quota unreachable"),
    ],
)
def test_the_numbers_of_a_survey(
    output_of: OutputOf, quota: int, callers: int, hours: float, seed: int, ended_by: str
) -> None:
    """All printed numbers equal those of a simulation."""
    expected = evening(quota, callers, hours * 60, seed)
    options = {"quota": quota, "callers": callers, "hours": hours, "seed": seed}

    ended, counts, causes, answers = output_of(
        "batch_quota", *(part for name, value in options.items() for part in (f"--{name}", str(value)))
    )

    assert expected.ended_by == ended_by
    assert ended == f"ended by {ended_by} after {expected.minutes:.1f} minutes"
    failed = expected.said["Busy"] + expected.said["Refused"]
    answered = expected.said.total() - failed
    assert [int(number) for number in re.findall(r"\d+", counts)] == [answered, failed, 1000 - answered - failed]
    assert causes == ", ".join(
        f"{cause} {expected.said[cause]}" for cause in ("Busy", "Refused") if expected.said[cause]
    ) or (causes == "no call failed")
    assert answers == ", ".join(f"{answer}: {expected.said[answer]}" for answer in ("yes", "no", "do not know"))


def test_progress_is_shown(run_example: RunPython) -> None:
    """The example prints its progress to stderr."""
    done = run_example("batch_quota", "--progress")

    assert done.returncode == 0
    lines = [
        re.fullmatch(r" *([\d.]+) min: (\d+) numbers done, (\d+) answers", line) for line in done.stderr.splitlines()
    ]
    progress = [(float(line[1]), int(line[2]), int(line[3])) for line in lines if line is not None]
    assert len(progress) == len(lines) >= 4
    assert progress == sorted(progress)
    assert {number for _, number, _ in progress} >= {100, 200, 300, 400}


@pytest.mark.parametrize("quota", ["0", "1001", "many"])
def test_a_quota_that_cannot_be_met(run_example: RunPython, quota: str) -> None:
    """A wrong quota is a usage error."""
    done = run_example("batch_quota", "--quota", quota)

    assert done.returncode == 2
    assert "--quota" in done.stderr
