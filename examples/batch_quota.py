"""A telephone survey: 30 callers call up to 1,000 numbers until 200 people have answered.

Run as `python examples/batch_quota.py [--quota N] [--callers N] [--hours N] [--seed N]`.

Each number is a run, and all runs are one batch with a limit and a quota. The batch ends when the quota is met, can no
longer be met, or the time is over. Then Cano cancels the running calls and does not start the others. The example uses
a virtual clock, and a minute of the survey takes 10 ms of it. So a single run is quick on a real clock too.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable
from enum import Enum, auto
from random import Random
from typing import Literal

from cano import (
    ConcurrentWorkflow,
    ConcurrentWorkflowStatus,
    Failed,
    Kernel,
    Key,
    KeyValueStore,
    TaskConfig,
    WaitStrategy,
    Workflow,
    current_step,
)
from cano.testing import VirtualClock
from cano_retry import Fixed


class State(Enum):
    DIAL = auto()
    ASK = auto()
    DONE = auto()


class Busy(Exception):
    """The line is busy, so another attempt may help."""


class Refused(Exception):
    """The person does not want to answer, so do not call again."""


NUMBER = Key("number", int)
SEED = Key("seed", int)
ANSWER = Key("answer", str)

NUMBERS = 1000
MINUTE = 0.01  # seconds
ANSWERS = ["yes", "no", "do not know"]

flow = Workflow(State.DIAL, name="survey", default_config=TaskConfig.minimal()).add_exit_state(State.DONE)


def sleep(minutes: float) -> Awaitable[None]:
    # by the kernel's clock, which may be virtual
    return current_step().run.kernel.clock.sleep(minutes * MINUTE)


def chance(store: KeyValueStore) -> Random:
    # seeded by number, step and attempt, so that the same seed gives the same survey
    step = current_step()
    return Random(f"{store.get(SEED, default=1)} {store.get(NUMBER, default=1)} {step.seq} {step.attempt}")


@flow.on(State.DIAL, config=TaskConfig(retry=Fixed(2, MINUTE, retry_on=Busy)))
async def dial(store: KeyValueStore) -> Literal[State.ASK]:
    random = chance(store)
    await sleep(random.uniform(0.1, 0.5))
    if random.random() < 0.4:
        raise Busy
    return State.ASK


@flow.on(State.ASK)
async def ask(store: KeyValueStore) -> Literal[State.DONE]:
    random = chance(store)
    if random.random() < 0.5:
        await sleep(random.uniform(0.1, 0.3))
        raise Refused
    await sleep(random.uniform(2, 10))
    store[ANSWER] = random.choice(ANSWERS)
    return State.DONE


def show(status: ConcurrentWorkflowStatus) -> None:
    done = status.completed + status.failed
    if done % 100 == 0:
        print(f"{status.duration / MINUTE:5.1f} min: {done} numbers done, {status.completed} answers", file=sys.stderr)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Call people until enough of them have answered.")
    parser.add_argument("--quota", type=int, default=200, help="number of answers to collect")
    parser.add_argument("--callers", type=int, default=30, help="number of calls at the same time")
    parser.add_argument("--hours", type=float, default=4, help="duration of the survey in hours")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers")
    parser.add_argument("--progress", action="store_true", help="print the progress to stderr")
    given = parser.parse_args()
    if not 1 <= given.quota <= NUMBERS:
        parser.error(f"--quota must be from 1 to {NUMBERS}, not {given.quota}")
    stores = [{"number": number, "seed": given.seed} for number in range(NUMBERS)]
    async with Kernel(clock=VirtualClock()) as kernel:
        batch = ConcurrentWorkflow(flow, limit=given.callers, kernel=kernel, progress=show if given.progress else None)
        results, status = await batch.execute_concurrent(
            stores, WaitStrategy.quota_or_duration(given.quota, given.hours * 60 * MINUTE)
        )
    print(f"ended by {status.ended_by} after {status.duration / MINUTE:.1f} minutes")
    print(f"{status.completed} answered, {status.failed} did not, {status.cancelled} cancelled or not called")
    causes = [type(result.error.__cause__).__name__ for result in results if isinstance(result, Failed)]
    print(", ".join(f"{cause} {causes.count(cause)}" for cause in sorted(set(causes))) or "no call failed")
    answers = [store["answer"] for store in stores if "answer" in store]
    print(", ".join(f"{answer}: {answers.count(answer)}" for answer in ANSWERS))


if __name__ == "__main__":
    asyncio.run(main())
