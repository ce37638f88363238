"""The base class and the helpers of the clauses of the store contract."""

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
from cano.protocols import Capabilities, StoreBackend
from cano.records import Commit, RunRecord, RunStatus, Transition
from cano.run_filter import RunFilter

NOW = 1_700_000_000.123456
LATER = NOW + 30

T = TypeVar("T")
ContractT = TypeVar("ContractT", bound="Contract")
ErrorT = TypeVar("ErrorT", bound=BaseException)


class Contract:
    """The base class of every part of the contract, with the store to test."""

    patience = 60.0
    """Seconds after which a clause fails: a store that hangs is broken."""

    def make_url(self, tmp_path: Path) -> str:
        """Return the URL of a new, empty store. Called once for each test.

        Args:
            tmp_path: an empty folder, pytest's fixture of this name.
        """
        raise NotImplementedError(f"{type(self).__name__} must name a store: def make_url(self, tmp_path) -> str")

    def open_backend(self, url: str) -> StoreBackend:
        """Return a backend for `url`, not yet opened. By default, an installed plugin opens it, as for a kernel."""
        return installed_backend(url)

    @asynccontextmanager
    async def opened(self, url: str) -> AsyncIterator[StoreBackend]:
        """Provide a backend for `url`, which is open in the `with` block."""
        store = self.open_backend(url)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


def clause(test: Callable[[ContractT, StoreBackend], Awaitable[None]]) -> Callable[[ContractT, Path], None]:
    """Make a plain pytest test from an async one that takes an open, empty backend."""

    async def on_store(contract: ContractT, url: str) -> None:
        async with contract.opened(url) as store:
            await test(contract, store)

    return _test_like(test, on_store)


def clause_of_url(test: Callable[[ContractT, str], Awaitable[None]]) -> Callable[[ContractT, Path], None]:
    """Make a plain pytest test from an async one that takes the store's URL, and opens the store itself."""
    return _test_like(test, test)


def _test_like(
    original: Callable[..., Any], test: Callable[[ContractT, str], Awaitable[None]]
) -> Callable[[ContractT, Path], None]:
    async def with_timeout(contract: ContractT, url: str) -> None:
        async with asyncio.timeout(contract.patience):
            await test(contract, url)

    @functools.wraps(original)
    def run(self: ContractT, tmp_path: Path) -> None:
        asyncio.run(with_timeout(self, self.make_url(tmp_path)))

    del run.__dict__["__wrapped__"]  # pytest would take the original's arguments for fixtures
    return run


def installed_backend(url: str) -> StoreBackend:
    """Return the backend that an installed plugin makes for `url`, not yet opened.

    Raises:
        ConfigurationError: no plugin opens the URL, or it is wrong.
    """
    try:
        backend: StoreBackend = _plugins().provided("store", url)
    except ConfigurationError as error:
        error.add_note("to test a store that no installed plugin opens, override open_backend")
        raise
    return backend


def declared_stores() -> dict[str, Capabilities]:
    """Return the capabilities that the installed plugins declare for their stores, by URL scheme."""
    declared: dict[str, Capabilities] = {}
    for stores in _plugins().stores().values():
        declared.update(stores)
    return declared


@functools.cache  # loading the plugins takes longer than most clauses
def _plugins() -> Kernel:
    kernel = Kernel()
    kernel.load()
    return kernel


# values to store


def new_run(run_id: str = "run", **fields: Any) -> RunRecord:
    """Return a run at its start, held by "me" with token 1 until `LATER`."""
    given: dict[str, Any] = {
        "workflow": "flow", "version": "1", "fingerprint": "f1", "state": "S0", "created": NOW, "updated": NOW,
        "holder": "me", "expires": LATER, "token": 1,
    }  # fmt: skip
    return RunRecord(run_id=run_id, **given | fields)


FLOW = new_run().workflow, new_run().version, new_run().fingerprint
"""The definition of the workflow of a `new_run`, for `ClaimingStore.claim_ready`."""


def free_run(run_id: str = "run", **fields: Any) -> RunRecord:
    """Return a run at its start that has no holder, and has never had one."""
    return new_run(run_id, **{"holder": None, "expires": None, "token": 0} | fields)


def step(seq: int, run_id: str = "run", **fields: Any) -> Commit:
    """Return the commit of a `new_run` that makes its transition number `seq`."""
    return note(seq, run_id, **{"expected_seq": seq - 1} | fields)


def note(seq: int, run_id: str = "run", **fields: Any) -> Commit:
    """Return a commit of a `new_run` at `seq` that makes no transition."""
    given: dict[str, Any] = {
        "token": 1, "expected_seq": seq, "state": f"S{seq}", "status": RunStatus.RUNNING, "at": NOW + seq,
    }  # fmt: skip
    return Commit(run_id=run_id, seq=seq, **given | fields)


def value(store: StoreBackend, thing: Any) -> Any:
    """Return `thing` as the kernel passes it to this store: as bytes if it keeps bytes."""
    return repr(thing).encode() if store.capabilities.encoded else thing


def values(store: StoreBackend, **data: Any) -> dict[str, Any]:
    """Return several values as the kernel passes them to this store; see `value`."""
    return {key: value(store, thing) for key, thing in data.items()}


def endless(store: StoreBackend, seq: int, token: int) -> Commit:
    """Return transition `seq` of an endless series of commits, during which a process is killed.

    It consumes the signal whose id is its seq. Its keys repeat after seven transitions; five of them exist at a time.
    Each third one sets and removes values of the engine's own.
    """
    changed = {"seq": value(store, seq), f"key {seq % 7}": value(store, seq), "same": value(store, seq)}
    own: dict[str, Any] = {"own": values(store, same=seq), "own_removed": ["key 1"]} if seq % 3 == 0 else {}
    return step(seq, token=token, changed=changed, removed=[f"key {(seq + 2) % 7}"], consumed=[str(seq)], **own)


# values from the store


async def loaded(store: StoreBackend, run_id: str = "run") -> RunRecord:
    """Return a deep copy of the run, which must exist."""
    run = await store.load(run_id)
    assert run is not None, f"the run {run_id!r} does not exist"
    error = None if run.error is None else dict(run.error)
    return copy.deepcopy(run._replace(data=dict(run.data), error=error, own=dict(run.own)))


def entries(history: Sequence[Transition]) -> list[tuple[Any, ...]]:
    """Return a history that can be compared, whatever types of sequence and mapping the store returns.

    An entry without values of the engine's own has none of the last two parts.
    """
    return [
        (
            entry.seq,
            entry.state,
            entry.status,
            entry.at,
            copy.deepcopy(dict(entry.changed)),
            list(entry.removed),
            *((copy.deepcopy(dict(entry.own)), list(entry.own_removed)) if entry.own or entry.own_removed else ()),
        )
        for entry in history
    ]  # fmt: skip


def promised(store: StoreBackend, history: Sequence[T]) -> list[T]:
    """Return the history that `store` must return for this one: all of it, or nothing if it keeps no history."""
    return list(history) if store.capabilities.history else []


async def stored(store: StoreBackend, run_id: str = "run") -> Any:
    """Return all that the store keeps of a run, to be compared: the run, its history, its oldest signal "go"."""
    signal = copy.deepcopy(await store.next_signal(run_id, "go"))
    return await loaded(store, run_id), entries(await store.history(run_id)), signal


async def deleted(store: StoreBackend, run_id: str = "run") -> bool:
    """Delete a run. Return False for a store that keeps everything: it must refuse, and change nothing."""
    if store.capabilities.retention:
        await store.delete(run_id)
    else:
        await refuses_to_delete(store, run_id)
    return store.capabilities.retention


async def refuses_to_delete(store: StoreBackend, run_id: str) -> None:
    """Check that a store that keeps everything refuses to delete a run, and changes nothing."""

    async def everything() -> Any:
        run = None if await store.load(run_id) is None else await stored(store, run_id)
        signals = await store.signals(run_id)
        return run, copy.deepcopy(list(signals.waiting)), sorted(signals.consumed_keys, key=repr)

    before = await everything()
    error = await raised(StoreError, store.delete(run_id))
    # StoreUnavailableError would mean that a retry can succeed
    assert not isinstance(error, StoreUnavailableError), f"without retention, delete must not raise {error!r}"
    assert await everything() == before, f"without retention, delete must not change {run_id!r}"


async def raised(kind: type[ErrorT], call: Awaitable[Any]) -> ErrorT:
    """Return the error of `kind` that `call` must raise."""
    try:
        answer = await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised; the answer was {answer!r}")


async def check_pages(store: StoreBackend, filter: RunFilter, expected: Sequence[str]) -> None:
    """Check that a list of the expected runs comes in two pages: two runs, and the rest."""
    page = await store.runs(filter._replace(limit=2))
    assert [run.run_id for run in page] == [*expected[:2]], filter
    if page:
        rest = await store.runs(filter._replace(after=filter.place_of(page[-1])))
        assert [run.run_id for run in rest] == [*expected[2:]], filter


def _explain_failures() -> None:
    """Let pytest show both sides of a failed comparison in the clauses, which are imported later."""
    if (pytest := sys.modules.get("pytest")) is None:
        return
    modules = {f"cano.testing.{file.stem}" for file in Path(__file__).parent.glob("contract_*.py")}
    pytest.register_assert_rewrite(*modules - sys.modules.keys())


_explain_failures()
