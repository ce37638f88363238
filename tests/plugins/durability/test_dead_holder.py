"""A holder that is seen to be dead is not waited for. The lease lasts an hour, and no time passes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from cano import ConflictError, RunRecord, RunStatus, Standstill, Workflow, is_held
from cano.holders import lives, new_holder

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

HOUR = 3600.0
PROGRAM = "from cano.holders import new_holder; print(new_holder(), flush=True); input()"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A process that prints its name as a holder, and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def holder(process: subprocess.Popen[str]) -> str:
    """Its name."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def kill(process: subprocess.Popen[str]) -> Callable[[], None]:
    """Kill it."""

    def kill() -> None:
        process.kill()
        process.wait()

    return kill


def counting() -> Workflow[str]:
    """A run of one step."""

    async def count(store: dict[str, int]) -> str:
        store["n"] = 1
        return "end"

    return Workflow("count", name="counter").register("count", count).add_exit_state("end")


def test_the_living_are_not_dead(holder: str) -> None:
    """This process and another one that lives, awake or stopped."""
    assert lives(new_holder()) is not False
    assert lives(holder) is not False
    assert new_holder() != new_holder()


def test_a_stopped_process_is_alive(process: subprocess.Popen[str], holder: str) -> None:
    """It may wake up."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)  # until it has stopped

    assert lives(holder) is not False


def test_a_killed_process_is_dead(process: subprocess.Popen[str], holder: str) -> None:
    """Also while its parent has not yet looked."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie from here on
    assert lives(holder) is False

    process.wait()
    assert lives(holder) is False


def test_of_others_nothing_is_known(holder: str, kill: Callable[[], None]) -> None:
    """Processes of other machines, or of this one before it was started anew, and names of another making."""
    kill()
    name, _, rest = holder.partition("@")
    elsewhere = f"{name}@{int(rest[:8], 16) ^ 1:08x}{rest[8:]}"
    for other in (elsewhere, f"{name}@{rest[8:]}", "", "me", "host:1:2", f"host:x@{rest}", f"host:@{rest}", f"@{rest}"):
        assert lives(other) is not False
    assert lives(holder) is False


@pytest.fixture
async def record(world: World, holder: str) -> RunRecord:
    """A run that the process holds, for an hour."""
    kernel = await world.kernel(lease=HOUR)
    plan = kernel.bind(counting())
    now = world.clock.time()
    record = RunRecord(
        run_id="r", workflow=plan.name, version=plan.version, fingerprint=plan.fingerprint, state="count",
        created=now, updated=now, holder=holder, expires=now + HOUR, token=1,
    )  # fmt: skip
    return await world.store(kernel).create(record)


async def test_the_run_of_a_living_holder_is_left_alone(world: World, record: RunRecord) -> None:
    """As ever."""
    kernel = await world.kernel()
    assert is_held(record, world.clock.time())
    assert await kernel.recover(counting()) == []
    with pytest.raises(ConflictError):
        await kernel.resume(counting(), "r")
    assert await kernel.cancel("r")
    assert (await world.look("r")).token == 1


async def test_the_run_of_a_dead_holder_is_taken_at_once(
    world: World, record: RunRecord, kill: Callable[[], None]
) -> None:
    """Starting it again lets it go on, and the dead one's token is worth nothing any more."""
    kill()
    kernel = await world.kernel()
    (listed,) = await kernel.runs(status=RunStatus.INTERRUPTED)
    assert listed.run_id == "r"
    (finding,) = await kernel.check()
    assert (finding.kind, finding.run_id) == ("stale lease", "r")
    assert "is dead" in finding.detail
    assert (await kernel.explain("r")).reason is Standstill.INTERRUPTED

    assert (await kernel.run(counting(), run_id="r")).data == {"n": 1}
    assert (await world.look("r")).token == 2


async def test_resuming_the_run_of_a_dead_holder(world: World, record: RunRecord, kill: Callable[[], None]) -> None:
    """`resume` does not wait either."""
    kill()
    kernel = await world.kernel()

    assert (await kernel.resume(counting(), "r")).data == {"n": 1}


async def test_recovering_the_run_of_a_dead_holder(world: World, record: RunRecord, kill: Callable[[], None]) -> None:
    """Nor does `recover`."""
    kill()
    kernel = await world.kernel()
    (handle,) = await kernel.recover(counting())

    assert (await handle.result()).data == {"n": 1}


async def test_cancelling_the_run_of_a_dead_holder(world: World, record: RunRecord, kill: Callable[[], None]) -> None:
    """Nor does `cancel`."""
    kill()
    kernel = await world.kernel()
    assert await kernel.cancel("r")

    assert (await world.look("r")).status is RunStatus.CANCELLED
