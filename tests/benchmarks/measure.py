"""How things are measured: rounds that take turns, and the best of each."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Variant = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        work: what was measured.
        against: what it was compared with.
        measured: a number in `unit`.
        unit: "x", "µs", "bytes" or "ms".
        goal: the most that it should be; None where there is no goal.
    """

    work: str
    against: str
    measured: float
    unit: str
    goal: float | None = None

    def columns(self) -> tuple[str, ...]:
        """The line as text."""
        goal = "" if self.goal is None else f"≤ {self.goal:g} {self.unit}"
        verdict = "" if self.goal is None else "yes" if self.measured <= self.goal else "NO"
        digits = 0 if self.unit == "bytes" else 1 if self.unit == "ms" else 3 if self.unit == "µs" else 2
        return self.work, self.against, f"{self.measured:,.{digits}f} {self.unit}", goal, verdict


async def best(rounds: int, *variants: Variant) -> list[float]:
    """The shortest time of each variant, in seconds; see `timed`."""
    return [min(taken) for taken in await timed(rounds, *variants)]


async def timed(rounds: int, *variants: Variant) -> list[list[float]]:
    """The times of each variant, one for each round, in seconds.

    They take turns, so that what slows the machine slows all of them; and what counts is the time of the processor,
    since none of them waits for anything.
    """
    times: list[list[float]] = [[] for _ in variants]
    for _ in range(rounds):
        for variant, taken in zip(variants, times, strict=True):
            gc.collect()
            gc.disable()
            try:
                begin = time.process_time()
                await variant()
                taken.append(time.process_time() - begin)
            finally:
                gc.enable()
    return times


def table(lines: list[Line]) -> str:
    """The lines, one below the other."""
    rows = [("work", "against", "measured", "goal", "met"), *(line.columns() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in (2, 3) else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
