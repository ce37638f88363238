"""The contract of stores that append: each of its clauses fails on a store that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cano import Appended, Commit
from cano.testing.contract_appends import AppendClauses
from cano_memory import MemoryBackend

from tests.kernel.testing.test_contract import Methods, OnStore, broken, keep, known

CLAUSES = sorted(name for name in dir(AppendClauses) if name.startswith("test_"))


class Appending(MemoryBackend):
    """A store of bytes, which appends."""

    def __init__(self) -> None:
        super().__init__(strict=True)


def committing(change: Callable[[Any, Commit], Mapping[str, Any]]) -> Methods:
    """A `commit` that sets what `change` makes of the run's data and the commit."""

    def commit(store: Any, honest: Callable[..., Any], commit: Commit, audit: Any = None) -> Any:
        data = Appended.gathered(known(store, commit.run_id).data)
        return honest(commit._replace(changed=change(data, commit)), audit)

    return {"commit": commit}


def joined(value: Any) -> Any:
    """A value in one part."""
    return b"".join(value) if value.__class__ is Appended else value


async def telling_all(store: Any, honest: Callable[..., Any], run_id: str) -> Any:
    """A history with whole values in place of what was appended."""
    data: dict[str, Any] = {}
    told = []
    for entry in await honest(run_id):
        Appended.gather(data, entry.changed, entry.removed)
        whole = Appended.gathered(data)
        told.append(entry._replace(changed={key: whole[key] for key in entry.changed}))
    return told


async def short(store: Any, honest: Callable[..., Any], run_id: str) -> Any:
    """A run whose values have lost the parts beyond the first hundred."""
    run = await honest(run_id)
    return run and run._replace(data={key: value[:100] for key, value in run.data.items()})


def left_behind(store: Any, honest: Callable[..., Any], run_id: str, audit: Any = None) -> Any:
    """Delete a run, but leave its parts for the next one with its id."""
    store.left = known(store, run_id).data.get("log")
    return honest(run_id, audit)


async def found_again(store: Any, honest: Callable[..., Any], run: Any, audit: Any = None) -> Any:
    """Create a run with the parts that another has left."""
    made = await honest(run, audit)
    if getattr(store, "left", None) is not None:
        keep(store, run.run_id, data={"log": store.left})
    return made


MUTANTS: dict[str, tuple[Methods, str]] = {
    "sets what is to be appended": (
        committing(lambda data, commit: {key: joined(value) for key, value in commit.changed.items()}),
        "parts_are_kept_in_their_order the_history_tells_what_was_appended many_parts_are_kept"),
    "keeps the parts of a value that is set": (
        committing(lambda data, commit: {
            key: Appended((value,)) if data.get(key).__class__ is Appended else value
            for key, value in commit.changed.items()}),
        "parts_are_kept_in_their_order many_parts_are_kept"),
    "drops empty parts": (
        committing(lambda data, commit: {
            key: Appended(filter(None, value)) if value.__class__ is Appended else value
            for key, value in commit.changed.items()}),
        "parts_are_kept_in_their_order"),
    "tells whole values": ({"history": telling_all}, "the_history_tells_what_was_appended"),
    "keeps few parts": ({"load": short}, "many_parts_are_kept"),
    "leaves parts behind": ({"delete": left_behind, "create": found_again}, "many_parts_are_kept"),
}  # fmt: skip
PAIRS = [(name, f"test_{clause}") for name, (_, clauses) in MUTANTS.items() for clause in clauses.split()]


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_honest_store_keeps_every_clause(clause: str, tmp_path: Path) -> None:
    """The store that the broken ones are made of keeps the clause."""
    getattr(OnStore(Appending), clause)(tmp_path)


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause."""
    with pytest.raises(AssertionError) as failed:
        getattr(OnStore(broken(Appending, **MUTANTS[mutant][0])), clause)(tmp_path)
    assert str(failed.value)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in the contract that nothing is known to fail."""
    assert sorted({clause for _, clause in PAIRS}) == CLAUSES
