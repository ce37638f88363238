"""`python -m tests.benchmarks.drawing`: how long it takes to lay out and to draw a random state machine.

The time of the processor, the best of several rounds; the layout alone, and the whole picture.
"""

from __future__ import annotations

import argparse
import asyncio

from cano_drawing import Arrow, Machine, State, picture_of
from cano_drawing.layout.layered import lay_out

from tests.benchmarks.measure import Line, best, table
from tests.plugins.drawing.test_layout import machine

GOAL = 20.0
"""Milliseconds in which a workflow of 100 states is to be drawn."""


async def measured(number: int, seeds: int, rounds: int) -> list[Line]:
    """The lines of the table, for machines of `number` states."""
    lines = []
    for seed in range(seeds):
        boxes, links = machine(seed, number)
        states = [State(f"state {each}", "task") for each in range(number)]
        drawn = Machine("machine", states, [Arrow(states[a].name, states[b].name) for a, b in links])

        async def layout(graph: tuple = (boxes, links)) -> object:  # type: ignore[type-arg]
            return lay_out(*graph)

        async def picture(drawn: Machine = drawn) -> object:
            return picture_of(drawn)

        what = f"machine {seed}: {number} states, {len(links)} arrows"
        goal = GOAL if number == 100 else None
        times = await best(rounds, layout, picture)
        lines += [
            Line(f"{what}, {name}", "", seconds * 1e3, "ms", goal)
            for name, seconds in zip(("layout", "picture"), times, strict=True)
        ]
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.drawing", description=__doc__)
    parser.add_argument("--states", type=int, default=100)
    parser.add_argument("--machines", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    print(table(asyncio.run(measured(given.states, given.machines, given.rounds))))


if __name__ == "__main__":
    main()
