"""The contract of corrupt rows: a store in memory that can be corrupted keeps it, broken ones fail their clauses."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cano import (
    CanoError,
    LazyBackend,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signals,
    StoreBackend,
    StoreError,
    StoreUnavailableError,
)
from cano.testing import DamageContract
from cano_memory import MemoryBackend

from tests.kernel.testing.test_contract import Methods, broken

CLAUSES = sorted(name for name in dir(DamageContract) if name.startswith("test_"))
GOOD = b"what stands in a row"


class Shelf(MemoryBackend):
    """A store in memory, parts of whose runs can be corrupted.

    Attributes:
        corrupt: the corrupt part of each run that has one.
        blobs: bytes that are read with a run; only `GOOD` is good.
    """

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.corrupt: dict[str, str] = {}
        self.blobs: dict[str, bytes] = {}

    def check(self, run_id: str, *parts: str) -> None:
        """Raise SerializationError if one of these parts is corrupt."""
        if self.corrupt.get(run_id) in parts:
            raise unreadable(run_id)

    def decode(self, run_id: str) -> None:
        """Read the bytes of a run."""
        if self.blobs.get(run_id, GOOD) != GOOD:
            raise unreadable(run_id)

    async def load(self, run_id: str) -> RunRecord | None:
        """Read everything."""
        self.check(run_id, "record", "data")
        self.decode(run_id)
        return await super().load(run_id)

    async def create(self, run: RunRecord, audit: Any = None) -> RunRecord:
        """See whether it is there."""
        await self.load(run.run_id)
        return await super().create(run, audit)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """Say which are corrupt."""
        return [self.listed(run) for run in await super().runs(filter)]

    def listed(self, run: RunRecord) -> RunRecord:
        """What a list shows of a run."""
        if self.corrupt.get(run.run_id) != "record":
            return run
        error = {"type": "SerializationError", "message": str(unreadable(run.run_id))}
        return RunRecord(run.run_id, "", "", "", "", status=RunStatus.INTERRUPTED, error=error)

    async def history(self, run_id: str) -> Any:
        """Read all of it."""
        self.check(run_id, "history")
        return await super().history(run_id)

    async def commit(self, commit: Any, audit: Any = None) -> None:
        """Look at the run before."""
        self.check(commit.run_id, "record", "data")
        await super().commit(commit, audit)

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Any:
        """Read them all."""
        self.check(run_id, "signal")
        return await super().next_signal(run_id, name, own)

    async def signals(self, run_id: str) -> Any:
        """Read them all."""
        self.check(run_id, "signal")
        return await super().signals(run_id)

    async def delete(self, run_id: str, audit: Any = None) -> bool:
        """Delete what is corrupt too."""
        self.corrupt.pop(run_id, None)
        self.blobs.pop(run_id, None)
        return await super().delete(run_id, audit)


class Door(LazyBackend[Shelf]):
    """One of several backends on one shelf."""

    def __init__(self, shelf: Shelf) -> None:
        declined = dict.fromkeys(
            ("prune", "claims", "history_pages", "namespaces", "signal_limit", "streams", "slots"), False
        )
        super().__init__("the shelf", shelf.capabilities._replace(**declined))
        self._shelf = shelf

    def _load(self) -> Callable[[], Shelf]:
        return lambda: self._shelf

    async def close(self) -> None:
        """Leave the shelf to others."""
        self._closed = True


class OnShelf(DamageContract):
    """The contract, for a kind of shelf."""

    def __init__(self, kind: Callable[[], Any]) -> None:
        self.shelf: Shelf = kind()

    def make_url(self, tmp_path: Path) -> str:
        """It has none."""
        return "none"

    def open_backend(self, url: str) -> StoreBackend:
        """Another door."""
        return Door(self.shelf)

    def damage(self, url: str, run_id: str, what: str) -> None:
        """Corrupt a part."""
        self.shelf.corrupt[run_id] = what

    def rewrite(self, url: str, run_id: str, change: Callable[[bytes], bytes]) -> None:
        """Change the bytes."""
        self.shelf.blobs[run_id] = change(self.shelf.blobs.get(run_id, GOOD))


def unreadable(run_id: str) -> SerializationError:
    """The error."""
    error = SerializationError(f"the run {run_id!r} cannot be read")
    error.run_id = run_id
    return error


def away() -> StoreUnavailableError:
    """Another error, which a caller may take for one that passes."""
    return StoreUnavailableError("the store cannot be reached")


def fail(error: Exception) -> Any:
    """Raise it, in an expression."""
    raise error


async def unpickled(store: Any, honest: Any, run_id: str) -> Any:
    """Read with pickle what stands in the row."""
    blob = store.blobs.pop(run_id, GOOD)
    try:
        if blob != GOOD:
            pickle.loads(blob)
    except Exception:  # noqa: BLE001  # pickle raises anything
        raise unreadable(run_id) from None
    finally:
        store.blobs[run_id] = blob
    return await honest(run_id)


async def wrong_data(store: Any, honest: Any, run_id: str) -> Any:
    """Take the bytes for data."""
    blob = store.blobs.pop(run_id, GOOD)
    run = await honest(run_id)
    store.blobs[run_id] = blob
    return run if blob == GOOD else run._replace(data={1: blob})


BARE = SerializationError("something cannot be read")

# what is wrong with a store: how it is done, and the clauses that see it
# fmt: off
MUTANTS: dict[str, tuple[Methods, str]] = {
    "loads what is corrupt": (
        {"load": lambda s, honest, run_id: MemoryBackend.load(s, run_id)},
        "a_corrupt_run_is_an_error_that_names_it commits_do_not_hide_corruption"),
    "does not say which run": (
        {"load": lambda s, honest, run_id: fail(BARE) if run_id in s.corrupt else honest(run_id)},
        "a_corrupt_run_is_an_error_that_names_it commits_do_not_hide_corruption"),
    "has no corrupt run": (
        {"load": lambda s, honest, run_id: None if run_id in s.corrupt else honest(run_id)},
        "a_corrupt_run_is_an_error_that_names_it"),
    "creates a corrupt run anew": (
        {"create": lambda s, honest, run: MemoryBackend.create(s, run)}, "a_corrupt_run_is_an_error_that_names_it"),
    "hides corrupt runs": (
        {"runs": lambda s, honest, f: hidden(s, honest(f))}, "a_corrupt_record_is_listed corrupt_data_is_listed"),
    "lists corrupt records as if they were whole": (
        {"runs": lambda s, honest, f: MemoryBackend.runs(s, f)}, "a_corrupt_record_is_listed"),
    "lists corrupt runs as succeeded": (
        {"runs": lambda s, honest, f: succeeded(s, honest(f))}, "corrupt_data_is_listed"),
    "lists nothing beside a corrupt run": (
        {"runs": lambda s, honest, f: fail(BARE) if s.corrupt else honest(f)},
        "a_corrupt_record_is_listed corrupt_data_is_listed"),
    "has nothing ready beside a corrupt run": (
        {"ready": lambda s, honest, now: [] if s.corrupt else honest(now)}, "other_runs_go_on"),
    "renews nothing beside a corrupt run": (
        {"renew": lambda s, honest, holder, tokens, end: list(tokens) if s.corrupt else honest(holder, tokens, end)},
        "other_runs_go_on"),
    "commits nothing beside a corrupt run": (
        {"commit": lambda s, honest, c: fail(BARE) if s.corrupt else honest(c)}, "other_runs_go_on"),
    "deletes no corrupt run": (
        {"delete": lambda s, honest, run_id: fail(unreadable(run_id)) if run_id in s.corrupt else honest(run_id)},
        "a_corrupt_run_can_be_deleted"),
    "leaves what is corrupt": (
        {"delete": lambda s, honest, run_id: MemoryBackend.delete(s, run_id)}, "a_corrupt_run_can_be_deleted"),
    "cannot be reached for a corrupt run": (
        {"claim": lambda s, honest, run_id, *rest: fail(away()) if run_id in s.corrupt else honest(run_id, *rest)},
        "a_kernel_ends_a_corrupt_run"),
    "mends a run with a commit": (
        {"commit": lambda s, honest, c: (s.corrupt.pop(c.run_id, None), honest(c))[1]},
        "commits_do_not_hide_corruption"),
    "refuses a commit without a name": (
        {"commit": lambda s, honest, c: fail(BARE) if c.run_id in s.corrupt else honest(c)},
        "commits_do_not_hide_corruption"),
    "tells the rest of a history": (
        {"history": lambda s, honest, run_id: MemoryBackend.history(s, run_id)}, "a_corrupt_history_is_an_error"),
    "tells no history beside a corrupt run": (
        {"history": lambda s, honest, run_id: [] if s.corrupt and run_id not in s.corrupt else honest(run_id)},
        "a_corrupt_history_is_an_error other_runs_go_on"),
    "leaves corrupt signals out": (
        {"next_signal": lambda s, honest, *args: None if args[0] in s.corrupt else honest(*args)},
        "a_corrupt_signal_is_an_error"),
    "leaves corrupt signals out of all": (
        {"signals": lambda s, honest, run_id: Signals() if run_id in s.corrupt else honest(run_id)},
        "a_corrupt_signal_is_an_error"),
    "takes no signal beside a corrupt one": (
        {"next_signal": lambda s, honest, *args: fail(BARE) if s.corrupt else honest(*args)},
        "a_corrupt_signal_is_an_error"),
    "unpickles": ({"load": unpickled}, "no_stored_bytes_run_code"),
    "raises what its decoder raises": (
        {"load": lambda s, honest, run_id: honest(run_id) if s.blobs.get(run_id, GOOD) == GOOD else fail(ValueError())},
        "no_stored_bytes_run_code"),
    "takes bytes for data": ({"load": wrong_data}, "no_stored_bytes_run_code"),
    "lists nothing beside odd bytes": (
        {"runs": lambda s, honest, f: fail(BARE) if s.blobs else honest(f)}, "no_stored_bytes_run_code"),
}
# fmt: on


async def hidden(store: Any, runs: Any) -> Any:
    """Those that are whole."""
    return [run for run in await runs if run.run_id not in store.corrupt]


async def succeeded(store: Any, runs: Any) -> Any:
    """All of them, the corrupt ones as succeeded."""
    return [run._replace(status=RunStatus.SUCCEEDED) if run.run_id in store.corrupt else run for run in await runs]


PAIRS = [(name, f"test_{clause}") for name, (_, clauses) in MUTANTS.items() for clause in clauses.split()]


DECLINED: list[tuple[dict[str, bool], Methods]] = [
    ({}, {}),
    ({"history": False}, {"history": lambda s, honest, run_id: ()}),
    ({"retention": False}, {"delete": lambda s, honest, run_id: fail(StoreError(f"this store keeps {run_id}"))}),
]


@pytest.mark.parametrize("clause", CLAUSES)
@pytest.mark.parametrize(("declined", "methods"), DECLINED)
def test_an_honest_store_keeps_every_clause(
    declined: dict[str, bool], methods: Methods, clause: str, tmp_path: Path
) -> None:
    """The shelf that the broken ones are made of keeps the clause, also if it declines what is optional."""
    contract = OnShelf(broken(Shelf, **methods))
    contract.shelf.capabilities = contract.shelf.capabilities._replace(**declined)
    getattr(contract, clause)(tmp_path)


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause, and the failure says how it was corrupted."""
    contract = OnShelf(broken(Shelf, **MUTANTS[mutant][0]))

    with pytest.raises((AssertionError, CanoError)) as failed:
        getattr(contract, clause)(tmp_path)
    if clause != "test_no_stored_bytes_run_code":
        assert any("the run was corrupted by" in note for note in failed.value.__notes__)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in the contract that nothing is known to fail."""
    assert sorted({clause for _, clause in PAIRS}) == CLAUSES


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """A subclass that cannot corrupt, or lists no way to, or rewrites nothing, is told so: it would test nothing."""

    class Unable(OnShelf):
        damage = DamageContract.damage
        rewrite = DamageContract.rewrite

    class Idle(OnShelf):
        damages = {"record": (), "data": (), "history": (), "signal": ()}  # noqa: RUF012

        def rewrite(self, url: str, run_id: str, change: Callable[[bytes], bytes]) -> None:
            change(GOOD)

    with pytest.raises(NotImplementedError, match=r"Unable must corrupt a run: def damage"):
        Unable(Shelf).test_a_corrupt_record_is_listed(tmp_path)
    with pytest.raises(NotImplementedError, match=r"Unable must rewrite bytes: def rewrite"):
        Unable(Shelf).test_no_stored_bytes_run_code(tmp_path)
    with pytest.raises(AssertionError, match="damages lists no way to corrupt record"):
        Idle(Shelf).test_a_corrupt_record_is_listed(tmp_path)
    with pytest.raises(AssertionError, match="rewrite does not store the changed bytes"):
        Idle(Shelf).test_no_stored_bytes_run_code(tmp_path)
