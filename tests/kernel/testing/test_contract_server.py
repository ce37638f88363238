"""The contracts of lost answers and of servers that go away: a store on a server in memory keeps them.

That server is an object, and what lies between it and its stores too: an answer is lost, or the server is away, when a
test says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cano import CanoError, LazyBackend, StoreBackend, StoreUnavailableError
from cano.testing import LostAnswersContract, Relay, RestartContract
from cano_memory import MemoryBackend


class Server:
    """A server that keeps runs, and can go away.

    Attributes:
        memory: what it has on disk.
        stores: those that are connected.
        up: whether it is there.
    """

    def __init__(self) -> None:
        self.memory = MemoryBackend(strict=True)
        self.stores: list[Store] = []
        self.up = True
        self.back = asyncio.Event()
        self.missed = threading.Event()

    def kill(self) -> None:
        """Be away. Called in any thread, as `start`."""
        self.missed.clear()
        self.back.clear()
        self.up = False

    def start(self) -> None:
        """Be back, once it was missed, if it is at all."""
        self.missed.wait(0.2)
        self.up = True
        for store in self.stores:
            store.loop.call_soon_threadsafe(store.found_again)


class Store(LazyBackend[MemoryBackend]):
    """A store on such a server, which waits for it, and tells its watcher what others do.

    Args:
        server: it.
        patience: seconds to wait for it.
    """

    def __init__(self, server: Server, patience: float = 30) -> None:
        super().__init__(
            "on a server",
            server.memory.capabilities._replace(
                notify=True,
                history_pages=False,
                namespaces=False,
                signal_limit=False,
                streams=False,
                slots=False,
            ),
        )
        self.server, self.patience = server, patience
        self.tell: Callable[[str | None], None] | None = None

    def _load(self) -> Callable[[], MemoryBackend]:
        return lambda: self.server.memory

    async def open(self) -> None:
        """Connect."""
        self.loop, self.closing = asyncio.get_running_loop(), asyncio.Event()
        if not self.server.up:
            raise StoreUnavailableError("there is no server")
        await super().open()
        self.server.stores.append(self)

    async def close(self) -> None:
        """Disconnect."""
        self._closed = True
        if self in self.server.stores:
            self.server.stores.remove(self)
            self.closing.set()

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Tell from now on."""
        self.tell = tell

    async def claim_ready(self, *given: Any) -> Any:
        """Claim many."""
        return await self._opened().claim_ready(*given)

    async def expired(self, *given: Any) -> Any:
        """Find many."""
        return await self._opened().expired(*given)

    async def delete_finished(self, *given: Any) -> Any:
        """Delete many."""
        return await self._opened().delete_finished(*given)

    def found_again(self) -> None:
        """The server is back."""
        self.server.back.set()
        self.lost_news()

    def lost_news(self) -> None:
        """Say that news may have been lost."""
        if self.tell is not None:
            self.tell(None)

    def _opened(self) -> Any:
        return Calls(self, super()._opened())

    async def call(self, name: str, ask: Callable[[], Awaitable[Any]], run_id: Any) -> Any:
        """One call."""
        await self.reach(run_id)
        await asyncio.sleep(0)  # others have their turn
        answer = await ask()
        if name == "put_signal":
            for other in self.server.stores:
                if other is not self and other.tell is not None:
                    other.tell(run_id)
        return answer

    async def reach(self, run_id: Any) -> None:
        """Return when the server is there."""
        if not self.server.up:
            self.server.missed.set()
            waits = [asyncio.ensure_future(each.wait()) for each in (self.server.back, self.closing)]
            await asyncio.wait(waits, timeout=self.patience, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()
        if not self.server.up or self.closing.is_set():
            raise StoreUnavailableError("there is no server", run_id=run_id)


class Calls:
    """The methods of a store on a server."""

    def __init__(self, store: Store, memory: MemoryBackend) -> None:
        self._store, self._memory = store, memory

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        def method(*args: Any) -> Awaitable[Any]:
            run_id = getattr(args[0], "run_id", args[0]) if args else None
            return self._store.call(name, lambda: getattr(self._memory, name)(*args), run_id)

        return method


# lost answers


class Wire(Relay):
    """What lies between a store and its server."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.open = asyncio.Event()
        self.open.set()

    def hold(self, *, new: bool = True) -> None:
        """Let nothing through."""
        self.open.clear()

    def let_go(self) -> None:
        """Let everything through."""
        self.open.set()


class Far(Store):
    """A store whose answers get lost. It finds out what became of its call, and asks no second time.

    Args:
        server: it.
        wire: what lies between.
    """

    def __init__(self, server: Server, wire: Wire) -> None:
        super().__init__(server)
        self.wire = wire

    async def call(self, name: str, ask: Callable[[], Awaitable[Any]], run_id: Any) -> Any:
        """One call."""
        await self.wire.open.wait()
        if not self.wire.lose:
            return await super().call(name, ask, run_id)
        self.wire.lose = False
        answer: Any = (await asyncio.gather(super().call(name, ask, run_id), return_exceptions=True))[0]
        self.wire.lost += 1
        self.wire.loss.set()
        await self.wire.open.wait()
        return await self.after_loss(ask, answer)

    async def after_loss(self, ask: Callable[[], Awaitable[Any]], answer: Any) -> Any:
        """What became of the call whose answer was lost."""
        if isinstance(answer, BaseException):
            raise answer
        return answer


class AsksAgain(Far):
    """Asks again, and takes that answer."""

    async def after_loss(self, ask: Callable[[], Awaitable[Any]], answer: Any) -> Any:
        """Ask."""
        return await ask()


class GivesUp(Far):
    """Does not find out."""

    async def after_loss(self, ask: Callable[[], Awaitable[Any]], answer: Any) -> Any:
        """Say so."""
        raise StoreUnavailableError("who knows")


class Hopes(Far):
    """Takes everything for done."""

    async def after_loss(self, ask: Callable[[], Awaitable[Any]], answer: Any) -> Any:
        """Hope."""
        return None if isinstance(answer, BaseException) else answer


class WritesAgain(Far):
    """Finds out that its commit was made, and writes the attributes again."""

    async def call(self, name: str, ask: Callable[[], Awaitable[Any]], run_id: Any) -> Any:
        """One call."""
        runs = self.server.memory._runs
        lose = self.wire.lose and name == "commit"
        begun = asyncio.ensure_future(super().call(name, ask, run_id))
        if not lose:
            return await begun
        await self.wire.loss.wait()
        written = runs[run_id].attributes
        answer = await begun
        runs[run_id] = runs[run_id]._replace(attributes=written)
        return answer


class Insists(Far):
    """Goes on asking when its caller has left."""

    async def call(self, name: str, ask: Callable[[], Awaitable[Any]], run_id: Any) -> Any:
        """Ask in a task of its own, a little later."""
        if name != "commit":
            return await super().call(name, ask, run_id)

        async def later() -> Any:
            for _ in range(15):
                await asyncio.sleep(0)
            return await super(Insists, self).call(name, ask, run_id)

        return await asyncio.shield(asyncio.ensure_future(later()))


class OverWire(LostAnswersContract):
    """The contract of lost answers, for a kind of store."""

    def __init__(self, kind: type[Far]) -> None:
        self.kind = kind
        self.server = Server()

    def make_url(self, tmp_path: Path) -> str:
        """It has none."""
        return "none"

    def open_backend(self, url: str) -> StoreBackend:
        """A store next to the server."""
        return Store(self.server)

    @asynccontextmanager
    async def far(self, url: str) -> AsyncIterator[tuple[StoreBackend, Relay]]:
        """A store that is far away."""
        wire = Wire()
        store = self.kind(self.server, wire)
        await store.open()
        yield store, wire
        await store.close()


# servers that go away


class Impatient(Store):
    """Waits for no server."""

    async def reach(self, run_id: Any) -> None:
        """Be there, or fail."""
        if not self.server.up:
            self.server.missed.set()
            raise StoreUnavailableError("there is no server", run_id=run_id)


class Endless(Store):
    """Waits for ever."""

    def __init__(self, server: Server, patience: float = 30) -> None:
        super().__init__(server)


class Nameless(Store):
    """Does not say which run."""

    async def reach(self, run_id: Any) -> None:
        """Name none."""
        await super().reach(None)


class Resigned(Store):
    """Does not look for the server again once it was away for too long."""

    gone = False

    async def reach(self, run_id: Any) -> None:
        """Fail at every call after the first one that the server does not answer."""
        self.gone = self.gone or not self.server.up
        if self.gone:
            raise StoreUnavailableError("there was no server", run_id=run_id)


class Optimist(Store):
    """Opens without a server."""

    async def open(self) -> None:
        """Look at nothing."""
        up, self.server.up = self.server.up, True
        await super().open()
        self.server.up = up


class Waiting(Store):
    """Waits for the server before it closes."""

    async def close(self) -> None:
        """Wait."""
        while not self.server.up:  # noqa: ASYNC110  # it has no other way
            await asyncio.sleep(0)
        await super().close()


class Stuck(Store):
    """Leaves those alone who wait when it closes."""

    async def close(self) -> None:
        """Do not wake the callers that wait for the server."""
        self.closing = asyncio.Event()
        self._closed = True


class Silent(Store):
    """Does not tell that news may have been lost."""

    def lost_news(self) -> None:
        """Say nothing."""


class Deaf(Store):
    """Tells nothing more once news was lost."""

    def lost_news(self) -> None:
        """Say so, and stop."""
        super().lost_news()
        self.tell = None


class Secret(Store):
    """Tells of news, and does not say so."""

    def __init__(self, server: Server, patience: float = 30) -> None:
        super().__init__(server, patience)
        self.capabilities = self.capabilities._replace(notify=False)


class Forgetful(Server):
    """Has not written the last commit of each run when it is killed."""

    def start(self) -> None:
        """Lose them."""
        for run_id, run in self.memory._runs.items():
            if run.seq:
                self.memory._runs[run_id] = run._replace(seq=run.seq - 1)
                self.memory._history[run_id].pop()
        super().start()


class Repeating(Server):
    """Does the last step of each run once more when it has started."""

    def start(self) -> None:
        """Repeat them."""
        for lines in self.memory._history.values():
            lines.append(lines[-1])
        super().start()


class OnServer(RestartContract):
    """The contract of servers that go away, for a kind of store and of server."""

    def __init__(self, kind: type[Store] = Store, server: type[Server] = Server) -> None:
        self.kind, self.server = kind, server()

    def make_url(self, tmp_path: Path) -> str:
        """It says how long to wait."""
        return "30"

    def impatient_url(self, url: str) -> str:
        """Less."""
        return "0.05"

    def open_backend(self, url: str) -> StoreBackend:
        """Another store."""
        return self.kind(self.server, float(url))

    def kill_server(self) -> None:
        """Kill it."""
        self.server.kill()

    def start_server(self) -> None:
        """Start it."""
        self.server.start()


class WithoutNews(Store):
    """Tells no news, as it says."""

    watch: Any = None

    def __init__(self, server: Server, patience: float = 30) -> None:
        super().__init__(server, patience)
        self.capabilities = self.capabilities._replace(notify=False)


LOST: dict[type[Far], str] = {
    AsksAgain: "a_commit_whose_answer_is_lost_is_made_once a_commit_that_others_followed_is_recognised "
    "many_commits_whose_answers_are_lost_are_made_once every_call_whose_answer_is_lost_is_made_once "
    "an_action_whose_answer_is_lost_leaves_one_entry a_claim_of_many_whose_answer_is_lost_is_made_once "
    "a_deletion_of_many_whose_answer_is_lost_is_reported attributes_whose_answer_is_lost_are_written_once",
    GivesUp: "a_commit_whose_answer_is_lost_is_made_once a_commit_that_others_followed_is_recognised "
    "many_commits_whose_answers_are_lost_are_made_once every_call_whose_answer_is_lost_is_made_once "
    "an_action_whose_answer_is_lost_leaves_one_entry a_claim_of_many_whose_answer_is_lost_is_made_once "
    "a_deletion_of_many_whose_answer_is_lost_is_reported attributes_whose_answer_is_lost_are_written_once",
    Hopes: "a_refusal_that_is_lost_stays_a_refusal",
    WritesAgain: "attributes_whose_answer_is_lost_are_written_once",
    Insists: "a_cancelled_commit_is_not_asked_for_again",
}
AWAY: dict[type[Store] | type[Server], str] = {
    Impatient: "runs_survive_what_happens_to_the_server",
    Forgetful: "runs_survive_what_happens_to_the_server",
    Repeating: "runs_survive_what_happens_to_the_server",
    Endless: "a_server_that_stays_away_is_an_error",
    Nameless: "a_server_that_stays_away_is_an_error",
    Resigned: "a_server_that_stays_away_is_an_error",
    Optimist: "a_server_that_stays_away_is_an_error",
    Waiting: "closing_does_not_wait_for_a_server",
    Stuck: "closing_does_not_wait_for_a_server",
    Silent: "lost_news_is_told",
    Deaf: "lost_news_is_told",
    Secret: "lost_news_is_told",
}
LOST_PAIRS = [(store, f"test_{clause}") for store, clauses in LOST.items() for clause in clauses.split()]
AWAY_PAIRS = [(kind, f"test_{clause}") for kind, clauses in AWAY.items() for clause in clauses.split()]


def clauses_of(contract: type) -> list[str]:
    """The names of its clauses."""
    return sorted(name for name in dir(contract) if name.startswith("test_"))


@pytest.mark.parametrize("clause", clauses_of(LostAnswersContract))
def test_an_honest_store_keeps_every_clause_of_lost_answers(clause: str, tmp_path: Path) -> None:
    """A store that finds out what became of its calls keeps the clause."""
    getattr(OverWire(Far), clause)(tmp_path)


@pytest.mark.parametrize(("store", "clause"), LOST_PAIRS)
def test_a_store_that_is_wrong_about_lost_answers_fails(store: type[Far], clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause."""
    with pytest.raises((AssertionError, CanoError)) as failed:
        getattr(OverWire(store), clause)(tmp_path)
    assert str(failed.value)


@pytest.mark.parametrize("clause", clauses_of(RestartContract))
@pytest.mark.parametrize("store", [Store, WithoutNews])
def test_an_honest_store_keeps_every_clause_of_servers_that_go_away(
    store: type[Store], clause: str, tmp_path: Path
) -> None:
    """A store that waits for its server keeps the clause, whether or not it tells of news."""
    getattr(OnServer(store), clause)(tmp_path)


@pytest.mark.parametrize(("kind", "clause"), AWAY_PAIRS)
def test_a_store_whose_server_goes_away_fails(kind: type[Store] | type[Server], clause: str, tmp_path: Path) -> None:
    """A store, or a server, that breaks one clause fails the test of that clause; one that hangs does so too."""
    contract = OnServer(server=kind) if issubclass(kind, Server) else OnServer(kind)
    hangs = kind in (Endless, Resigned, Waiting, Stuck, Silent, Deaf)
    if hangs:
        contract.patience = 1

    with pytest.raises((AssertionError, TimeoutError) if hangs else (AssertionError, CanoError, ExceptionGroup)):
        getattr(contract, clause)(tmp_path)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in these contracts that nothing is known to fail."""
    assert sorted({clause for _, clause in LOST_PAIRS}) == clauses_of(LostAnswersContract)
    assert sorted({clause for _, clause in AWAY_PAIRS}) == clauses_of(RestartContract)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """A subclass that does not say how its server is reached or killed is told what to write."""

    class Unreached(LostAnswersContract):
        def make_url(self, tmp_path: Path) -> str:
            return "memory://"

    class Immortal(RestartContract):
        def make_url(self, tmp_path: Path) -> str:
            return "memory://"

    with pytest.raises(NotImplementedError, match="Unreached must put a relay between: def relayed"):
        Unreached().test_a_refusal_that_is_lost_stays_a_refusal(tmp_path)
    with pytest.raises(NotImplementedError, match="Immortal must kill its server: def kill_server"):
        Immortal().test_closing_does_not_wait_for_a_server(tmp_path)
    with pytest.raises(NotImplementedError, match=r"Immortal must limit the wait: def impatient_url"):
        Immortal().test_a_server_that_stays_away_is_an_error(tmp_path)
