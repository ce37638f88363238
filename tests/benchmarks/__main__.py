"""`python -m tests.benchmarks`: what the engine costs, side by side with what one would write by hand.

Nothing here fails on a time: the table says what was measured and which goals were met.
"""

from __future__ import annotations

import argparse
import asyncio
import platform

from tests.benchmarks.concurrency import side_by_side
from tests.benchmarks.imports import command_time, import_time
from tests.benchmarks.many import concurrent_runs, memory
from tests.benchmarks.measure import Line, table
from tests.benchmarks.steps import atomic_steps, large_values, no_op_steps, plain_steps, retries, short_runs


async def measured(steps: int, runs: int, rounds: int) -> list[Line]:
    """Every line of the table."""
    return [
        *await no_op_steps(steps, rounds),
        *await plain_steps(steps, rounds),
        *await atomic_steps(steps, rounds),
        *await short_runs(runs // 5, rounds),
        *await retries(max(1, steps // 20), rounds),
        *await large_values(rounds),
        *await concurrent_runs(runs, max(1, rounds // 2)),
        *await memory(runs),
        *await side_by_side(steps, runs, rounds),
        *import_time(min(rounds, 7)),
        *command_time(min(rounds, 7)),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--steps", type=int, default=60_000, help="steps of a run that is measured")
    parser.add_argument("--runs", type=int, default=10_000, help="runs at once")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is measured; the best counts")
    given = parser.parse_args()
    print(f"Python {platform.python_version()} on {platform.machine()}; the best of {given.rounds} rounds")
    print(table(asyncio.run(measured(given.steps, given.runs, given.rounds))))


if __name__ == "__main__":
    main()
