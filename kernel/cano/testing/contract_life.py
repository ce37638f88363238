"""The store contract: concurrent calls, cancellation, closing."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cano.errors import ConflictError, StoreUnavailableError
from cano.protocols import StoreBackend
from cano.records import RunRecord
from cano.run_filter import RunFilter
from cano.signals import Signal
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    free_run,
    loaded,
    new_run,
    note,
    promised,
    raised,
    step,
    stored,
    value,
    values,
)


class LifeClauses(Contract):
    """Concurrent calls, cancellation, closing."""

    @clause
    async def test_many_runs_commit_at_once(self, store: StoreBackend) -> None:
        """A hundred runs with twenty steps each, at the same time, all have the right data and complete histories."""

        async def drive(run_id: str) -> RunRecord:
            await store.create(new_run(run_id))
            for seq in range(1, 21):
                await store.commit(step(seq, run_id, changed=values(store, n=seq, last=run_id), removed=["first"]))
            return await loaded(store, run_id)

        ids = [f"run {n}" for n in range(100)]
        runs = await asyncio.gather(*map(drive, ids))

        assert [(run.seq, run.state, run.data) for run in runs] == [
            (20, "S20", values(store, n=20, last=run_id)) for run_id in ids
        ]
        unbroken = promised(store, [(0, None), *((seq, value(store, seq)) for seq in range(1, 21))])
        for run_id in ids:
            assert [(entry.seq, entry.changed.get("n")) for entry in await store.history(run_id)] == unbroken

    @clause
    async def test_different_calls_at_once_undo_nothing(self, store: StoreBackend) -> None:
        """A commit, a renewal and a signal for one run at the same time all take effect, in any order."""
        await store.create(new_run())
        for seq in range(1, 21):
            calls = [
                store.commit(step(seq, changed=values(store, n=seq))),
                store.renew("me", {"run": 1}, LATER + seq),
                store.put_signal("run", Signal(str(seq), "go")),
            ]
            await asyncio.gather(*(calls if seq % 2 else reversed(calls)))
            run = await loaded(store)
            assert (run.seq, run.data, run.expires) == (seq, values(store, n=seq), LATER + seq)
        assert len((await store.signals("run")).waiting) == 20

    @clause
    async def test_a_claim_and_a_commit_at_once(self, store: StoreBackend) -> None:
        """If a claim and a stale holder's commit come at the same time, the commit is applied completely or refused."""
        for number in range(20):
            await store.create(new_run(run_id := str(number), data=values(store, n=0)))
            claim = store.claim(run_id, "another", LATER + 1, LATER + 9)
            commit = store.commit(step(1, run_id, changed=values(store, n=1)))
            calls = (claim, commit) if number % 2 else (commit, claim)
            answers = await asyncio.gather(*calls, return_exceptions=True)

            seq = 0 if any(isinstance(answer, ConflictError) for answer in answers) else 1
            assert await loaded(store, run_id) == new_run(
                run_id, state=f"S{seq}", seq=seq, data=values(store, n=seq), updated=NOW + seq, holder="another",
                expires=LATER + 9, token=2,
            )  # fmt: skip
            assert 2 in answers
            assert [entry.seq for entry in await store.history(run_id)] == promised(store, [0, 1][: seq + 1])

    @clause
    async def test_a_cancelled_commit_happens_whole_or_not_at_all(self, store: StoreBackend) -> None:
        """If the caller of `commit` is cancelled, all of the commit is applied or nothing, and the store still works.

        The next `load` shows which: the store does not apply the commit later.
        """
        await store.create(new_run(data=values(store, a=0, b=0)))
        made = [0]
        for number, turns in enumerate((0, 1, 2, 3, 5, 8, 0), 1):
            changed = values(store, a=number, b=number)
            commit = asyncio.ensure_future(store.commit(step(len(made), changed=changed)))
            for _ in range(turns):
                await asyncio.sleep(0)
            commit.cancel()
            (answer,) = await asyncio.gather(commit, return_exceptions=True)
            assert answer is None or isinstance(answer, asyncio.CancelledError)
            run = await loaded(store)
            if run.seq == len(made):
                made.append(number)
            assert answer is not None or made[-1] == number
            assert run.seq == len(made) - 1
            assert run.data == values(store, a=made[-1], b=made[-1])
        await store.commit(step(len(made), changed=values(store, a=99, b=99)))

        history = [(seq, values(store, a=number, b=number)) for seq, number in enumerate([*made, 99])]
        assert [(entry.seq, entry.changed) for entry in await store.history("run")] == promised(store, history)

    @clause
    async def test_a_cancelled_create_or_claim_shows_at_once(self, store: StoreBackend) -> None:
        """If the caller of `create` or `claim` is cancelled, the next `load` shows whether it was applied.

        The store does not apply the call later. A claim shows by its `expires`, which the store keeps exactly.
        """
        for number, turns in enumerate((0, 1, 2, 3, 5, 8, 0)):
            new, free = new_run(f"new {number}"), free_run(f"free {number}")
            await store.create(free)
            expires = math.nextafter(LATER, math.inf)
            for call in (store.create(new), store.claim(free.run_id, "me", NOW, expires)):
                task = asyncio.ensure_future(call)
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            created, claimed = await store.load(new.run_id), await store.load(free.run_id)
            assert created in (None, new)
            assert claimed in (free, free._replace(holder="me", expires=expires, token=1))
            await store.put_signal("any", Signal(str(number), "go"))  # any call that comes later
            for _ in range(20):
                await asyncio.sleep(0)
            assert (await store.load(new.run_id), await store.load(free.run_id)) == (created, claimed)

    @clause
    async def test_a_storm_of_cancellations_breaks_nothing(self, store: StoreBackend) -> None:
        """When a thousand calls of all methods are cancelled midway, nothing changes, and later calls are answered."""
        await store.create(new_run(data=values(store, a=1)))
        await store.put_signal("run", Signal("1", "go"))
        calls = _calls_that_change_nothing(store)
        before, answers = await stored(store), await _answers(calls)
        chance = random.Random(24)

        async def caller(first: int) -> None:
            for number in range(first, first + 50):
                call = asyncio.ensure_future(calls[number % len(calls)]())
                for _ in range(chance.choice((0, 1, 2, 3, 5, 8, 13, 21, 34))):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)

        await asyncio.gather(*map(caller, range(20)))

        assert await _answers(calls) == answers
        assert await stored(store) == before

    @clause
    async def test_after_closing_every_call_is_refused(self, store: StoreBackend) -> None:
        """After `close`, every call raises StoreUnavailableError, `open` included."""
        await store.create(new_run())
        await store.close()

        for call in (
            lambda: store.create(new_run("other")),
            lambda: store.create(new_run()),
            lambda: store.load("run"),
            lambda: store.load("never"),
            lambda: store.commit(step(1)),
            lambda: store.commit(step(9)),
            lambda: store.claim("run", "another", LATER + 1, LATER + 2),
            lambda: store.renew("me", {"run": 1}, LATER),
            lambda: store.release("run", 1),
            lambda: store.runs(RunFilter()),
            lambda: store.history("run"),
            lambda: store.put_signal("run", Signal("1", "go")),
            lambda: store.next_signal("run", "go"),
            lambda: store.signals("run"),
            lambda: store.missing_recipients(),
            lambda: store.ready(NOW),
            lambda: store.delete("run"),
            lambda: store.open(),
        ):
            await raised(StoreUnavailableError, call())

    @clause
    async def test_closing_twice_is_harmless(self, store: StoreBackend) -> None:
        """`close` of a closed store does nothing."""
        await store.close()
        await store.close()


def _calls_that_change_nothing(store: StoreBackend) -> Sequence[Callable[[], Awaitable[Any]]]:
    """One call of each method for the run "run", which has the signal "1"."""
    return (
        lambda: store.load("run"),
        lambda: store.history("run"),
        lambda: store.next_signal("run", "go"),
        lambda: store.signals("run"),
        lambda: store.runs(RunFilter()),
        lambda: store.ready(NOW),
        lambda: store.missing_recipients(),
        lambda: store.create(new_run()),
        lambda: store.commit(note(0)),
        lambda: store.claim("run", "another", NOW, LATER),
        lambda: store.renew("me", {"run": 1}, LATER),
        lambda: store.release("run", 9),
        lambda: store.put_signal("run", Signal("1", "go")),
        lambda: store.delete("never"),
    )


async def _answers(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[str]:
    """Return the answers of all calls, as text. Only `delete` may be refused, by a store that keeps everything."""
    *others, delete = calls
    answers = [repr(answer) for answer in await asyncio.gather(*(call() for call in others))]
    return [*answers, *map(repr, await asyncio.gather(delete(), return_exceptions=True))]
