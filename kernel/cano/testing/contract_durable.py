"""The store contract: durability, and several processes on one store."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

from cano.errors import StoreUnavailableError
from cano.optional_stores import StreamingStore
from cano.protocols import StoreBackend
from cano.records import RunRecord, RunStatus, Wait
from cano.signals import Signal
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    clause_of_url,
    deleted,
    endless,
    entries,
    free_run,
    loaded,
    new_run,
    note,
    promised,
    step,
    stored,
    value,
    values,
)
from cano.testing.contract_streams import chunk, contents


class Worker:
    """A handle to a process that runs `contract_worker`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout

    def wait_until_ready(self) -> None:
        """Wait until the process has opened the store."""
        assert self.line() == "ready"

    def go(self) -> None:
        """Start the job."""
        self._stdin.write("go\n")
        self._stdin.flush()

    def line(self) -> str:
        """Wait for the next line that the process prints, and return it."""
        line = self._stdout.readline()
        assert line.endswith("\n"), f"the worker ended early with exit status {self._process.wait()}"
        return line[:-1]

    def kill(self) -> list[str]:
        """Kill the process with SIGKILL, and return the remaining lines that it has printed."""
        self._process.kill()
        return [line[:-1] for line in self._stdout if line.endswith("\n")]

    def finish(self) -> list[str]:
        """Wait until the process has ended, and return the lines that it has printed."""
        printed = self._stdout.read().splitlines()
        assert self._process.wait() == 0, "the worker failed; its traceback is on stderr"
        return printed


class DurableClauses(Contract):
    """Durability, and several processes on one store."""

    def worker_command(self, url: str, *arguments: str) -> Sequence[str]:
        """Return the command of a worker that opens `url` with an installed plugin.

        A subclass that overrides `open_backend` must override this, too: with a program that passes the same
        `open_backend` to `contract_worker.main`.
        """
        return [sys.executable, "-m", "cano.testing.contract_worker", url, *arguments]

    @contextmanager
    def worker(self, url: str, name: str, job: str, count: int) -> Iterator[Worker]:
        """Provide a worker that has opened `url`; it is killed after the `with` block."""
        command = self.worker_command(url, name, job, str(count))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            watchdog = threading.Timer(self.patience, process.kill)
            watchdog.start()
            try:
                yield Worker(process)
            finally:
                watchdog.cancel()
                process.kill()

    def at_once(self, url: str, job: str, count: int, *, workers: int = 2) -> dict[str, list[str]]:
        """Start several workers with one job at the same time. Return the lines that each prints, by its name."""
        with ExitStack() as stack:
            named = {
                f"worker {n}": stack.enter_context(self.worker(url, f"worker {n}", job, count)) for n in range(workers)
            }
            for worker in named.values():
                worker.wait_until_ready()
            for worker in named.values():
                worker.go()
            return {name: worker.finish() for name, worker in named.items()}

    async def store_runs(self, url: str, *runs: RunRecord) -> None:
        """Create runs in the store, and close it."""
        async with self.opened(url) as store:
            for run in runs:
                await store.create(run)

    @clause
    async def test_durable_is_declared(self, store: StoreBackend) -> None:
        """The capabilities of a durable store are `durable` and `encoded`."""
        assert store.capabilities.durable
        assert store.capabilities.encoded

    @clause_of_url
    async def test_everything_survives_reopening(self, url: str) -> None:
        """A store that is opened again has the same runs, histories, leases, signals and deletions."""
        async with self.opened(url) as store:
            await store.create(new_run(data=values(store, z=1, a=2), parent="p"))
            await store.commit(step(1, changed=values(store, b=3), removed=["a"]))
            for each in "231":
                await store.put_signal("run", Signal(each, "go", value(store, each)))
            await store.put_signal("early", Signal("1", "go", value(store, 1)))
            await store.commit(
                note(1, status=RunStatus.PARKED, wait=Wait(then="B", until=NOW + 1 / 3), error={"class": "E"},
                     payload=value(store, 4), consumed=["2"], release=True)
            )  # fmt: skip
            assert await store.claim("run", "another", NOW, LATER + 1 / 3) == 2
            await store.create(new_run("deleted"))
            is_deleted = await deleted(store, "deleted")
            before = await stored(store)

        async with self.opened(url) as store:
            assert await stored(store) == before
            assert list((await loaded(store)).data) == ["z", "b"]
            assert (await store.load("deleted") is None) == is_deleted
            assert await store.next_signal("early", "go") == Signal("1", "go", value(store, 1))
            await store.put_signal("run", Signal("2", "go"))
            assert await store.next_signal("run", "go") == Signal("3", "go", value(store, "3"))
            assert await store.claim("run", "third", LATER, LATER + 9) is None
            await store.commit(step(2, token=2))

    @clause_of_url
    async def test_streams_survive_reopening(self, url: str) -> None:
        """A store that is opened again has the same streams, to which more is added; no chunk is written twice."""
        async with self.opened(url) as store:
            if not isinstance(store, StreamingStore):
                return
            await store.create(new_run())
            written, committed, other = chunk(store, 2, size=2), chunk(store, 3), chunk(store, 1, "other")
            await store.write_stream("run", 1, [written])
            await store.commit(step(1, chunks=[committed, other]))

        async with self.opened(url) as store:
            assert isinstance(store, StreamingStore)
            assert await contents(store) == [written, committed]
            assert await contents(store, channel="other") == [other]
            more = chunk(store, 4)
            await store.write_stream("run", 1, [chunk(store, 3, text=" again"), more])
            assert await contents(store) == [written, committed, more]
            assert sorted(await store.channels("run")) == ["answer", "other"]

    @clause_of_url
    async def test_closing_finishes_what_is_under_way(self, url: str) -> None:
        """A commit in progress when the store closes is either acknowledged and stored, or raises."""
        async with self.opened(url) as store:
            for number in range(20):
                await store.create(new_run(str(number)))
            commits = [asyncio.ensure_future(store.commit(step(1, str(number)))) for number in range(20)]
            await asyncio.sleep(0)
            await store.close()
            answers = await asyncio.gather(*commits, return_exceptions=True)

        assert all(answer is None or isinstance(answer, StoreUnavailableError) for answer in answers), answers
        async with self.opened(url) as store:
            for number, answer in enumerate(answers):
                assert answer is not None or (await loaded(store, str(number))).seq == 1

    @clause_of_url
    async def test_two_backends_see_the_same(self, url: str) -> None:
        """A change that one backend has acknowledged is visible at once to another backend of the store."""
        async with self.opened(url) as one, self.opened(url) as two:
            await one.create(new_run(data=values(one, a=1)))
            assert await two.create(new_run(holder="another")) == new_run(data=values(one, a=1))
            for seq in range(1, 11):
                here, there = (one, two) if seq % 2 else (two, one)
                await here.put_signal("run", Signal(str(seq), "go"))
                assert await there.next_signal("run", "go") == Signal(str(seq), "go")
                await here.commit(step(seq, changed=values(one, a=seq), consumed=[str(seq)]))
                assert await stored(there) == await stored(here)
                assert (await loaded(there)).seq == seq
            assert await two.claim("run", "another", NOW, LATER) is None
            await two.release("run", 1)
            assert await one.claim("run", "another", NOW, LATER) == 2
            assert list(await two.renew("me", {"run": 1}, LATER)) == ["run"]
            is_deleted = await deleted(two)
            assert (await one.load("run") is None) == is_deleted

    def test_two_processes_create_each_run_once(self, tmp_path: Path) -> None:
        """If two processes create the same runs at the same time, exactly one creates each run."""
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url))
        made = self.at_once(url, "create", 30)

        assert sorted(chain(*made.values())) == sorted(f"run {number}" for number in range(30))

        async def check() -> None:
            async with self.opened(url) as store:
                for name, run_ids in made.items():
                    for run_id in run_ids:
                        assert await loaded(store, run_id) == new_run(run_id, holder=name, data=values(store, by=name))
                        assert [entry.seq for entry in await store.history(run_id)] == promised(store, [0])

        asyncio.run(check())

    def test_two_processes_claim_each_run_once(self, tmp_path: Path) -> None:
        """If two processes claim the same runs at the same time, exactly one claims each run."""
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url, *(free_run(f"run {number}") for number in range(30))))
        got = self.at_once(url, "claim", 30)

        assert sorted(chain(*got.values())) == sorted(f"run {number}" for number in range(30))

        async def check() -> None:
            async with self.opened(url) as store:
                for name, run_ids in got.items():
                    for run_id in run_ids:
                        assert await loaded(store, run_id) == new_run(run_id, holder=name)

        asyncio.run(check())

    def test_no_two_processes_get_one_token(self, tmp_path: Path) -> None:
        """Each claim, in any process, increases the token by one: two claims never get the same token."""
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url, free_run()))
        got = self.at_once(url, "reclaim", 30)

        assert sorted(map(int, chain(*got.values()))) == list(range(1, 61))
        assert all(tokens == sorted(tokens, key=int) for tokens in got.values())

    def test_two_processes_commit_each_transition_once(self, tmp_path: Path) -> None:
        """If two processes commit the same transitions, exactly one commits each; the history has no gap."""
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url, new_run()))
        victories = [(int(seq), name) for name, seqs in self.at_once(url, "race", 60).items() for seq in seqs]
        assert sorted(seq for seq, _ in victories) == list(range(1, 61))
        won = dict(victories)

        async def check() -> None:
            async with self.opened(url) as store:
                made = [(entry.seq, dict(entry.changed)) for entry in await store.history("run")]
                expected = [(0, {}), *((seq, values(store, by=won[seq], seq=seq)) for seq in range(1, 61))]
                assert made == promised(store, expected)
                assert (await loaded(store)).data == values(store, by=won[60], seq=60)

        asyncio.run(check())

    def test_a_killed_process_leaves_a_prefix(self, tmp_path: Path) -> None:
        """A process that is killed during its commits leaves no commit applied in part.

        The store has every acknowledged commit, and at most one more: record, data, history and consumed signals
        agree. The next process continues from there.
        """
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url, free_run()))

        async def check(acknowledged: int) -> None:
            async with self.opened(url) as store:
                run = await loaded(store)
                assert acknowledged <= run.seq <= acknowledged + 1
                data: dict[str, object] = {}
                expected = [endless(store, seq, run.token) for seq in range(1, run.seq + 1)]
                for commit in expected:
                    for key in commit.removed:
                        data.pop(key, None)
                    data |= commit.changed
                assert run.data == data
                assert run.own == (values(store, same=run.seq - run.seq % 3) if run.seq >= 3 else {})
                history = [
                    (c.seq, c.state, c.status, c.at, c.changed, [*c.removed], *((c.own, ["key 1"]) if c.own else ()))
                    for c in expected
                ]
                assert entries(await store.history("run"))[1:] == promised(store, history)
                signal = await store.next_signal("run", "go")
                assert signal in (None, Signal(str(run.seq + 1), "go", value(store, run.seq + 1)))

        for _ in range(3):
            with self.worker(url, "worker", "stream", 1_000_000) as worker:
                worker.wait_until_ready()
                worker.go()
                printed = [worker.line() for _ in range(random.randint(1, 50))]
                printed += worker.kill()
            asyncio.run(check(int(printed[-1])))
