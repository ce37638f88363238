"""What the clauses of the store contract are made of."""

from __future__ import annotations

import asyncio
import copy
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from cano.errors import ConfigurationError, StoreError, StoreUnavailableError
from cano.kernel.kernel import Kernel
from cano.plugins.codec_layers import shown
from cano.protocols import Capabilities, StoreBackend
from cano.records import Commit, RunRecord, RunStatus, Transition

NOW = 1_700_000_000.123456
LATER = NOW + 30

T = TypeVar("T")
ContractT = TypeVar("ContractT", bound="Contract")
ErrorT = TypeVar("ErrorT", bound=BaseException)


class Contract:
    """What every part of the contract needs: a store to test."""

    patience = 60.0
    """Seconds that one clause may take before it has failed: a store that hangs is a broken store."""

    def make_url(self, tmp_path: Path) -> str:
        """URL of a store that nobody uses yet. Called once for each test.

        Args:
            tmp_path: a fresh folder, pytest's fixture of this name.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what to test: def make_url(self, tmp_path) -> str")

    def open_backend(self, url: str) -> StoreBackend:
        """A backend on `url`, not yet opened. By default the installed plugins are asked, as a kernel does."""
        return installed_backend(url)

    @asynccontextmanager
    async def opened(self, url: str) -> AsyncIterator[StoreBackend]:
        """A backend on `url`, open while in here."""
        store = self.open_backend(url)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


def clause(test: Callable[[ContractT, StoreBackend], Awaitable[None]]) -> Callable[[ContractT, Path], None]:
    """Make a plain pytest test of an async one that takes an open backend, empty as yet."""

    async def on_store(contract: ContractT, url: str) -> None:
        async with contract.opened(url) as store:
            await test(contract, store)

    return _test_like(test, on_store)


def clause_of_url(test: Callable[[ContractT, str], Awaitable[None]]) -> Callable[[ContractT, Path], None]:
    """The same for a test that takes the store's URL, and opens it itself, as often as it likes."""
    return _test_like(test, test)


def _test_like(
    original: Callable[..., Any], test: Callable[[ContractT, str], Awaitable[None]]
) -> Callable[[ContractT, Path], None]:
    async def within_patience(contract: ContractT, url: str) -> None:
        async with asyncio.timeout(contract.patience):
            await test(contract, url)

    @functools.wraps(original)
    def run(self: ContractT, tmp_path: Path) -> None:
        asyncio.run(within_patience(self, self.make_url(tmp_path)))

    del run.__dict__["__wrapped__"]  # pytest would take the original's arguments for fixtures
    return run


def installed_backend(url: str) -> StoreBackend:
    """The backend that an installed plugin makes of `url`, not yet opened.

    Raises:
        ConfigurationError: there is none, or the URL is wrong.
    """
    backend: StoreBackend | None = _plugins().hook.cano_open_store(url=url)
    if backend is None:
        raise ConfigurationError(f"no installed plugin opens {shown(url)!r}; install it, or override open_backend")
    return backend


def declared_stores() -> dict[str, Capabilities]:
    """What the installed plugins say of the stores that they open, by URL scheme."""
    declared: dict[str, Capabilities] = {}
    for stores in _plugins().hook.cano_stores():
        declared.update(stores)
    return declared


@functools.cache  # finding the plugins takes longer than most clauses
def _plugins() -> Kernel:
    kernel = Kernel()
    kernel.load()
    return kernel


# what goes into a store


def new_run(run_id: str = "run", **fields: Any) -> RunRecord:
    """A run at its start, held by "me" with token 1 until `LATER`."""
    given: dict[str, Any] = {
        "workflow": "flow", "version": "1", "fingerprint": "f1", "state": "S0", "created": NOW, "updated": NOW,
        "holder": "me", "expires": LATER, "token": 1,
    }  # fmt: skip
    return RunRecord(run_id=run_id, **given | fields)


def free_run(run_id: str = "run", **fields: Any) -> RunRecord:
    """A run at its start that nobody holds, or has ever held."""
    return new_run(run_id, **{"holder": None, "expires": None, "token": 0} | fields)


def step(seq: int, run_id: str = "run", **fields: Any) -> Commit:
    """The commit of a `new_run` that makes its transition number `seq`."""
    return note(seq, run_id, **{"expected_seq": seq - 1} | fields)


def note(seq: int, run_id: str = "run", **fields: Any) -> Commit:
    """A commit of a `new_run` at `seq` that makes no transition."""
    given: dict[str, Any] = {
        "token": 1, "expected_seq": seq, "state": f"S{seq}", "status": RunStatus.RUNNING, "at": NOW + seq,
    }  # fmt: skip
    return Commit(run_id=run_id, seq=seq, **given | fields)


def value(store: StoreBackend, thing: Any) -> Any:
    """`thing` as the kernel would hand it to this store: bytes where it keeps bytes."""
    return repr(thing).encode() if store.capabilities.encoded else thing


def values(store: StoreBackend, **data: Any) -> dict[str, Any]:
    """The same for several."""
    return {key: value(store, thing) for key, thing in data.items()}


def endless(store: StoreBackend, seq: int, token: int) -> Commit:
    """Transition `seq` of the stream of commits in whose middle a process is killed.

    It consumes the signal whose id is its seq. The keys go round in a circle of seven, of which five are there.
    """
    changed = {"seq": value(store, seq), f"key {seq % 7}": value(store, seq), "same": value(store, seq)}
    return step(seq, token=token, changed=changed, removed=[f"key {(seq + 2) % 7}"], consumed=[str(seq)])


# what comes out of it


async def loaded(store: StoreBackend, run_id: str = "run") -> RunRecord:
    """The run, which must be there. Shares nothing with what the store handed out."""
    run = await store.load(run_id)
    assert run is not None, f"the run {run_id!r} is gone"
    return copy.deepcopy(run._replace(data=dict(run.data), error=None if run.error is None else dict(run.error)))


def lines(history: Sequence[Transition]) -> list[tuple[Any, ...]]:
    """A history to compare, whatever kinds of sequence and mapping the store hands out."""
    return [
        (line.seq, line.state, line.status, line.at, copy.deepcopy(dict(line.changed)), list(line.removed))
        for line in history
    ]


def told(store: StoreBackend, history: Sequence[T]) -> list[T]:
    """What `store` must tell of this history: all of it, or, if it keeps none, nothing."""
    return list(history) if store.capabilities.history else []


async def kept(store: StoreBackend, run_id: str = "run") -> Any:
    """All that the store keeps of a run, to compare: the run, its history, its oldest signal "go"."""
    signal = copy.deepcopy(await store.next_signal(run_id, "go"))
    return await loaded(store, run_id), lines(await store.history(run_id)), signal


async def deleted(store: StoreBackend, run_id: str = "run") -> bool:
    """Delete a run; whether that can be. A store that keeps everything must refuse it, and change nothing."""
    if store.capabilities.retention:
        await store.delete(run_id)
    else:
        await refuses_to_delete(store, run_id)
    return store.capabilities.retention


async def refuses_to_delete(store: StoreBackend, run_id: str) -> None:
    """Check that a store that keeps everything says so, and does."""

    async def everything() -> Any:
        run = None if await store.load(run_id) is None else await kept(store, run_id)
        waiting, consumed = await store.signals(run_id)
        return run, copy.deepcopy(list(waiting)), sorted(consumed)

    before = await everything()
    error = await raised(StoreError, store.delete(run_id))
    # that one says that it might work another time
    assert not isinstance(error, StoreUnavailableError), f"no retention, and yet delete says {error!r}"
    assert await everything() == before, f"no retention, and yet delete changed {run_id!r}"


async def raised(kind: type[ErrorT], call: Awaitable[Any]) -> ErrorT:
    """The error of `kind` that `call` must raise."""
    try:
        answer = await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised; the answer was {answer!r}")


def _explain_failures() -> None:
    """Let pytest, where it runs, show both sides of a failed comparison in the clauses, which are imported later."""
    if (pytest := sys.modules.get("pytest")) is None:
        return
    topics = (
        "commit", "create", "damage", "delete", "durable", "history", "lease", "life", "lost_answers", "news", "ready",
        "restart", "runs", "signal", "urls", "values",
    )  # fmt: skip
    modules = {f"cano.testing.contract_{topic}" for topic in topics}
    pytest.register_assert_rewrite(*modules - sys.modules.keys())


_explain_failures()
