"""The contract of a store's audit: each of its clauses fails on a store that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import ConflictError
from cano.testing.contract_audit import AuditClauses
from cano_memory import MemoryBackend

from tests.kernel.testing.test_contract import Methods, OnStore, broken

CLAUSES = sorted(name for name in dir(AuditClauses) if name.startswith("test_"))


class Auditing(MemoryBackend):
    """A store of objects with an audit."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = self.capabilities._replace(audit=True)


def without(name: str) -> Methods:
    """A method that drops its entry."""
    return {name: lambda s, honest, *args: honest(*args[:-1] if args[-1].__class__.__name__ == "AuditEntry" else args)}


async def always(store: Any, honest: Callable[..., Any], *args: Any) -> Any:
    """Add the entry before the action, whatever becomes of it."""
    *given, entry = args
    if entry.__class__.__name__ != "AuditEntry":
        return await honest(*args)
    store._note(entry)
    return await honest(*given)


async def even_stale(store: Any, honest: Callable[..., Any], commit: Any, audit: Any = None) -> None:
    """Add the entry of a stale commit, too."""
    try:
        await honest(commit, audit)
    except ConflictError:
        store._note(audit)
        raise


async def forgetful(store: Any, honest: Callable[..., Any], run_id: str, audit: Any = None) -> bool:
    """Delete the entries with the run."""
    store._audit = [each for each in store._audit if each.run_id != run_id]
    return bool(await honest(run_id, audit))


async def busy(store: Any, honest: Callable[..., Any], commit: Any, audit: Any = None) -> None:
    """Add an entry for each step."""
    from cano import AuditEntry

    await honest(commit, audit or AuditEntry(commit.run_id, "step", "the kernel", commit.at))


def kept(change: Callable[[Any], Any]) -> Methods:
    """A listing whose entries are changed."""

    async def audit(store: Any, honest: Callable[..., Any], *args: Any) -> Any:
        return [change(each) for each in await honest(*args)]

    return {"audit": audit}


async def unsorted(store: Any, honest: Callable[..., Any], run_id: Any, limit: Any) -> Any:
    """The entries in the order in which they were added."""
    found = [each for each in store._audit if run_id in (None, each.run_id)]
    return found if limit is None else found[-limit:]


async def by_prefix(store: Any, honest: Callable[..., Any], run_id: Any, limit: Any) -> Any:
    """The entries of all runs whose ids begin like this one."""
    found = await honest(None, None)
    return [each for each in found if run_id is None or (each.run_id or "").startswith(run_id)][
        -limit if limit else 0 :
    ]


async def once(store: Any, honest: Callable[..., Any], *args: Any) -> Any:
    """Equal entries once."""
    return list(dict.fromkeys(await honest(*args)))


async def to_the_end(store: Any, honest: Callable[..., Any], before: float, audit: Any) -> Any:
    """The entries at that time, too."""
    return await honest(before + 0.5, audit)


async def silently(store: Any, honest: Callable[..., Any], before: float, audit: Any) -> Any:
    """Without an entry of its own."""
    deleted = await honest(before, audit)
    store._audit.pop()
    return deleted


MUTANTS: dict[str, tuple[Methods, str]] = {
    "creates silently": (without("create"), "an_action_leaves_its_entry"),
    "signals silently": (without("put_signal"), "an_action_leaves_its_entry equal_entries_are_all_kept"),
    "commits silently": (without("commit"), "an_action_leaves_its_entry"),
    "deletes silently": (without("delete"), "an_action_leaves_its_entry"),
    "deletes entries": ({"delete": forgetful}, "an_action_leaves_its_entry"),
    "notes what exists": ({"create": always}, "an_action_without_effect_leaves_none"),
    "notes what is known": ({"put_signal": always}, "an_action_without_effect_leaves_none"),
    "notes what is refused": ({"put_signal_within": always}, "a_refused_signal_leaves_no_entry"),
    "notes what is stale": ({"commit": even_stale}, "an_action_without_effect_leaves_none"),
    "notes what is gone": ({"delete": always}, "an_action_without_effect_leaves_none"),
    "notes steps": ({"commit": busy}, "calls_without_an_entry_leave_none"),
    "does not sort": ({"audit": unsorted}, "entries_are_listed"),
    "mixes runs": ({"audit": by_prefix}, "entries_are_listed"),
    "ignores the limit": ({"audit": lambda s, honest, run_id, limit: honest(run_id, None)}, "entries_are_listed"),
    "cuts at NUL": (kept(lambda each: each._replace(detail=each.detail.split("\0")[0])), "entries_keep_any_text"),
    "cuts details": (kept(lambda each: each._replace(detail=each.detail[:999])), "entries_keep_any_text"),
    "cuts actors": (kept(lambda each: each._replace(actor=each.actor[:100])), "entries_keep_any_text"),
    "rounds times": (kept(lambda each: each._replace(at=round(each.at, 3))), "entries_keep_any_text"),
    "drops equals": ({"audit": once}, "equal_entries_are_all_kept"),
    "prunes too much": ({"prune_audit": to_the_end}, "pruning_deletes_old_entries"),
    "prunes silently": ({"prune_audit": silently}, "pruning_deletes_old_entries"),
    "prunes nothing": ({"prune_audit": lambda s, honest, _, audit: honest(0.0, audit)}, "pruning_deletes_old_entries"),
}  # fmt: skip
"""For each broken store its methods, and the clauses that find it out."""

PAIRS = [(name, f"test_{clause}") for name, (_, clauses) in MUTANTS.items() for clause in clauses.split()]


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause."""
    with pytest.raises(AssertionError):
        getattr(OnStore(broken(Auditing, **MUTANTS[mutant][0])), clause)(tmp_path)


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_honest_store_keeps_every_clause(clause: str, tmp_path: Path) -> None:
    """The store that the broken ones are made of keeps the clause."""
    getattr(OnStore(Auditing), clause)(tmp_path)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in the contract that nothing is known to fail."""
    assert sorted({clause for _, clause in PAIRS}) == CLAUSES
