"""The store contract for corrupt rows: a corrupt run is an error that names it, and all other runs continue."""

from __future__ import annotations

import asyncio
import functools
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar

from cano.errors import SerializationError, StoreError
from cano.kernel.kernel import Kernel
from cano.optional_stores import HistoryPagingStore
from cano.protocols import StoreBackend
from cano.records import Retention, RunRecord
from cano.run_filter import RunFilter
from cano.signals import Signal
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause_of_url,
    loaded,
    new_run,
    promised,
    raised,
    step,
    value,
    values,
)

STEPS = 8
HOSTILE = [
    b"", b"\xc1", b"\x91" * 100_000, b"\x80\x04\x95", b"cos\nsystem\n(S'false'\ntR.", b"\xc7\x05\x01cos\nsystem\n",
    b"!!python/object/apply:os.system", b'{"__class__": "os.system"}',
]  # fmt: skip
"""Bytes that are too short or too deep, or that run code in a less careful decoder."""
CODE_RUNS = {"import", "exec", "compile", "subprocess.Popen", "os.system", "pickle.find_class"}
"""The audit events of running code."""


class DamageContract(Contract):
    """The behaviour of a store with corrupt rows. A subclass corrupts them: see `damage` and `rewrite`."""

    damages: ClassVar[Mapping[str, Sequence[Any]]] = {part: (part,) for part in ("record", "data", "history", "signal")}
    """Ways to corrupt each part of a run, for `damage`. A subclass may list ways of its own.

    "record": the part that a list shows. "data": the part that only `load` reads. "history": the entry of transition 3.
    "signal": the signal with the id "1".
    """

    def damage(self, url: str, run_id: str, what: Any) -> None:
        """Change the stored rows of a run so that one part of it cannot be read.

        Called in a worker thread, while the store is open.

        Args:
            url: the store's URL.
            run_id: a run with the keys "a" and "b" and eight transitions, each of which changed "a".
            what: one of the ways in `damages`.
        """
        raise NotImplementedError(f"{type(self).__name__} must corrupt a run: def damage(self, url, run_id, what)")

    def rewrite(self, url: str, run_id: str, change: Callable[[bytes], bytes]) -> None:
        """Replace stored bytes of a run by `change` of them: always the same bytes, which `load` or `history` reads.

        Called in a worker thread, while the store is open.
        """
        raise NotImplementedError(f"{type(self).__name__} must rewrite bytes: def rewrite(self, url, run_id, change)")

    @asynccontextmanager
    async def corrupt(self, url: str, *parts: str) -> AsyncIterator[tuple[StoreBackend, AsyncIterator[str]]]:
        """Yield an open store with the run "other", and the ids of corrupt runs, one for each way, then deleted."""
        now: list[Any] = []

        async def ids() -> AsyncIterator[str]:
            for number, what in enumerate(what for part in parts for what in self.damages[part]):
                now[:] = [what]
                await _fill(store, run_id := f"run {number}")
                await asyncio.to_thread(self.damage, url, run_id, what)
                yield run_id
                if store.capabilities.retention:
                    await store.delete(run_id)
            assert now, f"damages lists no way to corrupt {' or '.join(parts)}"

        async with self.opened(url) as store:
            await _fill(store, "other")
            try:
                yield store, ids()
            except BaseException as error:
                error.add_note(f"the run was corrupted by: {now}")
                raise

    @clause_of_url
    async def test_a_corrupt_run_is_an_error_that_names_it(self, url: str) -> None:
        """`load` and `create` of a corrupt run raise SerializationError with its id, and return no part of it."""
        async with self.corrupt(url, "record", "data") as (store, run_ids):
            async for run_id in run_ids:
                await _refused(run_id, store.load(run_id))
                await _refused(run_id, store.create(new_run(run_id)))

    @clause_of_url
    async def test_a_corrupt_record_is_listed(self, url: str) -> None:
        """A list contains the corrupt run, with the problem as its error, and the other runs unchanged."""
        async with self.corrupt(url, "record") as (store, run_ids):
            whole = _listed(await store.runs(RunFilter()), "other")
            async for run_id in run_ids:
                listed = await store.runs(RunFilter())
                assert _listed(listed, "other") == whole
                error = _listed(listed, run_id).error
                assert error is not None, "the list does not say that the run is corrupt"
                assert error["type"] == "SerializationError"
                assert repr(run_id) in error["message"]

    @clause_of_url
    async def test_corrupt_data_is_listed(self, url: str) -> None:
        """A list contains a run with corrupt data, with an error or as the run that it is."""
        async with self.corrupt(url, "data") as (store, run_ids):
            status = _listed(await store.runs(RunFilter()), "other").status
            async for run_id in run_ids:
                run = _listed(await store.runs(RunFilter()), run_id)
                assert run.error is not None or (run.workflow, run.status) == ("flow", status)

    @clause_of_url
    async def test_other_runs_go_on(self, url: str) -> None:
        """Beside a corrupt run, other runs are ready, keep their leases, commit, and are read completely."""
        async with self.corrupt(url, "record", "data") as (store, run_ids):
            seq = STEPS
            async for run_id in run_ids:
                assert "other" in [run.run_id for run in await store.ready(LATER + 1)]
                assert "other" not in await store.renew("me", {run_id: 1, "other": 1}, LATER)
                for _ in range(3):
                    seq += 1
                    await store.commit(step(seq, "other", changed=values(store, b=seq)))
                assert await loaded(store, "other") == new_run(
                    "other", seq=seq, state=f"S{seq}", updated=NOW + seq, data=values(store, a=STEPS, b=seq)
                )
                assert [line.seq for line in await store.history("other")] == promised(store, range(seq + 1))

    @clause_of_url
    async def test_a_corrupt_run_can_be_deleted(self, url: str) -> None:
        """`delete` removes a corrupt run and all of its rows, so that its id can be used for a new run."""
        async with self.corrupt(url, "record", "data") as (store, run_ids):
            async for run_id in run_ids:
                if not store.capabilities.retention:
                    await raised(StoreError, store.delete(run_id))
                    continue
                assert await store.delete(run_id)
                assert run_id not in [run.run_id for run in await store.runs(RunFilter())]
                new = new_run(run_id, data=values(store, c=1))
                assert await store.create(new) == new
                assert await loaded(store, run_id) == new

    @clause_of_url
    async def test_a_kernel_ends_a_corrupt_run(self, url: str) -> None:
        """A kernel cancels a corrupt run, or says that only deleting it helps; it prunes or deletes the run."""
        async with (
            self.corrupt(url, "record", "data", "history", "signal") as (store, run_ids),
            Kernel(store=self.open_backend(url)) as kernel,
        ):
            retention = store.capabilities.retention
            async for run_id in run_ids:
                if retention:  # a listed run without a readable age has no age
                    assert run_id not in await kernel.prune(Retention(max_age=1e-9))
                (answer,) = await asyncio.gather(kernel.cancel(run_id), return_exceptions=True)
                if answer in (True, False):  # False: it is listed as finished
                    assert _listed(await kernel.runs(), run_id).status.finished
                    assert not await kernel.cancel(run_id)
                    if retention:
                        assert await kernel.prune(Retention(on_terminal="delete")) == [run_id]
                else:
                    assert isinstance(answer, SerializationError), answer
                    assert answer.run_id == run_id
                    assert f"kernel.delete({run_id!r})" in str(answer)
                    if retention:
                        await kernel.delete(run_id)
                assert retention != (run_id in [run.run_id for run in await kernel.runs()])
            assert await kernel.cancel("other")

    @clause_of_url
    async def test_commits_do_not_hide_corruption(self, url: str) -> None:
        """A commit of another key to a run with corrupt data is kept or refused, and the run stays an error.

        A backend that has written the data itself may remember and repair it.
        """
        async with self.corrupt(url, "data") as (store, run_ids):
            async for run_id in run_ids:
                async with self.opened(url) as other:
                    for seq in range(STEPS + 1, STEPS + 15):
                        commit = other.commit(step(seq, run_id, changed=values(store, new=seq)))
                        (answer,) = await asyncio.gather(commit, return_exceptions=True)
                        if answer is not None:
                            assert isinstance(answer, StoreError), answer
                            assert answer.run_id == run_id
                            break
                await _refused(run_id, store.load(run_id))

    @clause_of_url
    async def test_a_corrupt_history_is_an_error(self, url: str) -> None:
        """If an entry is corrupt, missing or foreign, `history` raises SerializationError; it returns no part."""
        async with self.corrupt(url, "history") as (store, run_ids):
            async for run_id in run_ids:
                if store.capabilities.history:
                    await _refused(run_id, store.history(run_id))
                    if isinstance(store, HistoryPagingStore):
                        await _refused(run_id, store.history_page(run_id, None, STEPS + 1))
                assert [line.seq for line in await store.history("other")] == promised(store, range(STEPS + 1))

    @clause_of_url
    async def test_a_corrupt_signal_is_an_error(self, url: str) -> None:
        """`next_signal` and `signals` raise SerializationError with the run's id; other runs get their signals."""
        async with self.corrupt(url, "signal") as (store, run_ids):
            async for run_id in run_ids:
                await _refused(run_id, store.next_signal(run_id, "go"))
                await _refused(run_id, store.signals(run_id))
                assert await store.next_signal("other", "go") == Signal("1", "go", value(store, 1))

    @clause_of_url
    async def test_no_stored_bytes_run_code(self, url: str) -> None:
        """Whatever bytes a row contains, reading it runs no code, and ends in a run or SerializationError."""
        chance = random.Random(4)
        good: list[bytes] = []

        def spoilt(stored: bytes) -> bytes:
            good.append(stored)
            if chance.random() < 0.3:
                return chance.choice(HOSTILE)
            blob = bytearray(good[0])
            for _ in range(chance.randrange(1, 4)):
                blob[chance.randrange(len(blob))] = chance.randrange(256)
            return bytes(blob)

        async with self.opened(url) as store:
            await _fill(store, "run")
            for turn in range(200):
                await asyncio.to_thread(self.rewrite, url, "run", spoilt)
                with _watched() as seen:
                    run, history = await asyncio.gather(store.load("run"), store.history("run"), return_exceptions=True)
                    assert len(await store.runs(RunFilter())) == 1
                for answer in (run, history):
                    if isinstance(answer, BaseException):
                        assert isinstance(answer, SerializationError), answer
                        assert answer.run_id == "run"
                if isinstance(run, RunRecord):
                    assert {type(key) for key in run.data} <= {str}
                    assert not store.capabilities.encoded or {type(item) for item in run.data.values()} <= {bytes}
                assert not seen or turn < 20, f"reading ran code: {seen}"  # the first reads may import what they need
            assert len(set(good)) > 1, "rewrite does not store the changed bytes"
            await asyncio.to_thread(self.rewrite, url, "run", lambda _: good[0])
            assert (await loaded(store)).seq == STEPS


async def _fill(store: StoreBackend, run_id: str) -> None:
    await store.create(new_run(run_id, data=values(store, a=0, b=0)))
    await store.put_signal(run_id, Signal("1", "go", value(store, 1)))
    for seq in range(1, STEPS + 1):
        await store.commit(step(seq, run_id, changed=values(store, a=seq)))


async def _refused(run_id: str, call: Awaitable[Any]) -> None:
    """Check that `call` raises SerializationError that names the run."""
    error = await raised(SerializationError, call)
    assert error.run_id == run_id
    assert repr(run_id) in str(error)


def _listed(runs: Sequence[RunRecord], run_id: str) -> RunRecord:
    found = [run for run in runs if run.run_id == run_id]
    assert len(found) == 1, f"the run {run_id!r} is not listed once: {[run.run_id for run in runs]}"
    return found[0]


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Collect the code that any thread imports, compiles or runs in this block."""
    _listen()
    seen: list[str] = []
    _listening.append(seen)
    try:
        yield seen
    finally:
        _listening.remove(seen)


@functools.cache  # a hook cannot be removed
def _listen() -> None:
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening and event in CODE_RUNS:
        for seen in _listening:
            seen.append(f"{event} {arguments[:1]}")


_listening: list[list[str]] = []
