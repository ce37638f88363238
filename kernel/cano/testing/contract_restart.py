"""The store contract for stores on a server: the server is killed, restarted, or away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cano.errors import StoreUnavailableError
from cano.optional_stores import NotifyingStore
from cano.signals import Signal
from cano.testing.contract_base import Contract, clause_of_url, loaded, new_run, promised, raised, step, values
from cano.testing.contract_news import News

T = TypeVar("T")


class RestartContract(Contract):
    """The behaviour of a store if its server goes away: calls wait for it, and none is lost or executed twice.

    A subclass kills and starts the server. No other test may use that server meanwhile.
    """

    def kill_server(self) -> None:
        """Kill the server at once, as a power failure would. Called in a worker thread."""
        raise NotImplementedError(f"{type(self).__name__} must kill its server: def kill_server(self)")

    def start_server(self) -> None:
        """Start the server again, and wait until it can be used. Called in a worker thread."""
        raise NotImplementedError(f"{type(self).__name__} must start its server: def start_server(self)")

    def impatient_url(self, url: str) -> str:
        """Return a URL of the same store with which calls fail after at most a second without a server."""
        raise NotImplementedError(f"{type(self).__name__} must limit the wait: def impatient_url(self, url) -> str")

    def strikes(self) -> Sequence[Callable[[], object]]:
        """Return functions that make the server unavailable, and return when it is available again.

        By default it is killed and started. A subclass may add a restart, or the loss of all connections.
        """

        def kill_and_start() -> None:
            self.kill_server()
            self.start_server()

        return [kill_and_start]

    @clause_of_url
    async def test_runs_survive_what_happens_to_the_server(self, url: str) -> None:
        """Runs whose server is killed again and again lose nothing, repeat nothing, and get no error."""
        made = dict.fromkeys((f"run {number}" for number in range(20)), 0)
        enough, due = asyncio.Event(), asyncio.Event()
        goal = 40

        async with self.opened(url) as store:

            async def drive(run_id: str) -> None:
                await store.create(new_run(run_id))
                while not enough.is_set():
                    seq = made[run_id] + 1
                    await store.commit(step(seq, run_id, changed=values(store, **{f"k{seq % 3}": seq, "last": seq})))
                    made[run_id] = seq
                    if sum(made.values()) >= goal:
                        due.set()

            async def strike_often() -> None:
                nonlocal goal
                try:
                    for strike in [strike for strike in self.strikes() for _ in range(3)]:
                        await due.wait()
                        await asyncio.to_thread(strike)
                        goal = sum(made.values()) + random.randrange(20, 200)
                        due.clear()
                    await due.wait()
                finally:
                    enough.set()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(strike_often())
                for run_id in made:
                    tasks.create_task(drive(run_id))

            for run_id, seq in made.items():
                run = await loaded(store, run_id)
                recent = {f"k{each % 3}": each for each in range(max(1, seq - 2), seq + 1)}
                assert (run.seq, run.data) == (seq, values(store, last=seq, **recent))
                assert [line.seq for line in await store.history(run_id)] == promised(store, range(seq + 1))

    @clause_of_url
    async def test_a_server_that_stays_away_is_an_error(self, url: str) -> None:
        """Without a server, calls and `open` raise StoreUnavailableError with the run's id; later they work again."""
        async with self.opened(self.impatient_url(url)) as store:
            await store.create(new_run())
            await asyncio.to_thread(self.kill_server)
            try:
                assert (await raised(StoreUnavailableError, store.commit(step(1)))).run_id == "run"
                assert (await raised(StoreUnavailableError, store.load("run"))).run_id == "run"
                other = self.open_backend(self.impatient_url(url))
                await raised(StoreUnavailableError, other.open())
                await other.close()
            finally:
                await asyncio.to_thread(self.start_server)
            assert (await _in_the_end(lambda: loaded(store))).seq == 0
            signal = Signal("1", "go")
            await _in_the_end(lambda: store.put_signal("run", signal))
            assert await _in_the_end(lambda: store.next_signal("run", "go")) == signal

    @clause_of_url
    async def test_closing_does_not_wait_for_a_server(self, url: str) -> None:
        """A store whose server is away closes at once; waiting calls raise StoreUnavailableError."""
        async with self.opened(url) as store:
            await store.create(new_run())
            await asyncio.to_thread(self.kill_server)
            try:
                commit = asyncio.ensure_future(store.commit(step(1)))
                load = asyncio.ensure_future(store.load("run"))
                for _ in range(20):
                    await asyncio.sleep(0)
                await store.close()
                answers = await asyncio.gather(commit, load, return_exceptions=True)
            finally:
                await asyncio.to_thread(self.start_server)

            assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2

    @clause_of_url
    async def test_lost_news_is_told(self, url: str) -> None:
        """A store that notifies sends None when it has reconnected, and notifications after that."""
        async with self.opened(url) as one, self.opened(url) as two:
            assert isinstance(one, NotifyingStore) == one.capabilities.notify
            if not isinstance(one, NotifyingStore):
                return
            news = News(one, self.patience / 3)
            for number, strike in enumerate(self.strikes()):
                await asyncio.to_thread(strike)
                await news.of(None)
                await two.put_signal(str(number), Signal("1", "go"))
                await news.of(str(number))


async def _in_the_end(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until the server is found. Each attempt waits a while by itself."""
    while True:
        try:
            return await call()
        except StoreUnavailableError:
            await asyncio.sleep(0)
