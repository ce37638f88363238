"""Lists by the end, the state and the error of runs that have ended."""

from __future__ import annotations

from typing import Any

from cano import RunFilter, RunStatus
from cano.testing.contract_base import NOW, new_run, step
from cano_redis import RedisBackend

FAILED = RunFilter(status=RunStatus.FAILED)
INDEXES = ":end:failed", ":outcome:failed:PAY", ":error:KeyError", ":error:OSError", ":noted", ":ended:flow", ":ends"


async def fail(store: RedisBackend, number: int) -> None:
    """Store a run that fails; a later one ends earlier."""
    await store.create(new_run(f"{number}", created=NOW + number))
    error = {
        "type": "KeyError" if number % 2 else "OSError",
        "message": "no",
        "cause": "OSError: é" if number else None,
    }
    await store.commit(
        step(1, f"{number}", state="PAY", status=RunStatus.FAILED, error=error, at=NOW + 99 - number, release=True)
    )


async def ids(store: RedisBackend, **fields: Any) -> str:
    """The ids of a list of failed runs."""
    return " ".join(run.run_id for run in await store.runs(FAILED._replace(**fields)))


async def test_ends_of_an_earlier_version_are_found(store: RedisBackend, ask: Any) -> None:
    """Runs that ended in a process of an earlier version, which noted less, are listed; corrupt ones, too."""
    for number in range(600):
        await fail(store, number)
    await ask("DEL", *INDEXES[:5])
    await fail(store, 600)
    assert await ids(store, order="updated", limit=2) == "600 599"
    await ask("DEL", *INDEXES[:5])
    assert await store.count(FAILED._replace(state="PAY")) == 601
    await ask("DEL", *INDEXES[:5])
    assert await ids(store, error="KeyError", limit=2) == "599 597"
    await ask("DEL", *INDEXES[:5], ":run:3")
    await ask("SET", ":run:3", "text")
    assert len((await ids(store, order="-updated")).split()) == 601
    assert await ask("ZCARD", ":end:failed") == await ask("ZCARD", ":status:failed") == 601


async def test_a_run_leaves_the_indexes_of_ends(store: RedisBackend, ask: Any) -> None:
    """A run that is resumed, or deleted, is in no index of runs that have ended; nor is a deleted corrupt one."""
    for number in range(4):
        await fail(store, number)
    assert await ids(store, error="OSError", order="created") == "0 1 2 3"
    assert await ids(store, error="OSError", order="-updated", limit=3) == "0 1 2"
    assert await ids(store, error="KeyError") == "3 1"
    await store.commit(step(2, "1"))
    await store.commit(step(3, "1", state="PAY", status=RunStatus.FAILED, error={"type": "OSError"}, at=NOW + 200))
    assert await ids(store, error="KeyError") == "3"
    assert await ids(store, order="-updated", limit=2) == "1 0"
    await store.commit(step(4, "1"))
    assert await ids(store, state="PAY") == "3 2 0"
    await ask("DEL", ":run:2")
    await ask("SET", ":run:2", "text")
    for number in range(4):
        assert await store.delete(f"{number}")
    for index in INDEXES:
        assert await ask("EXISTS", index) == 0, index
