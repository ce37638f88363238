"""The store contract for stores that decline what is optional, for what is declared of stores, and for their URLs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from cano import (
    CanoError,
    Capabilities,
    ConfigurationError,
    Kernel,
    StoreError,
    StoreUnavailableError,
    Transition,
    hookimpl,
)
from cano.testing import StoreBackendContract
from cano_memory import MemoryBackend

from tests.kernel.testing.test_contract import CLAUSES, Methods, OnStore, before, broken


class Promising(MemoryBackend):
    """A store in memory that keeps its methods, and declares what it likes."""

    promises: ClassVar[Mapping[str, bool]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = self.capabilities._replace(**self.promises)


class SaysNoHistory(Promising):
    """Says that it keeps no history."""

    promises: ClassVar[Mapping[str, bool]] = {"history": False}


class SaysNoRetention(Promising):
    """Says that it deletes nothing."""

    promises: ClassVar[Mapping[str, bool]] = {"retention": False}


class WithoutHistory(SaysNoHistory):
    """Keeps no history, as it says."""

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Nothing, ever."""
        return await self.history_page(run_id, None, None)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        """Nothing, ever."""
        with self._locked():
            return ()


class WithoutRetention(SaysNoRetention):
    """Deletes nothing, as it says."""

    async def delete(self, run_id: str, audit: Any = None) -> bool:
        """Refuse."""
        with self._locked():
            raise StoreError(f"this store keeps everything, {run_id} too")


class WithNeither(WithoutHistory, WithoutRetention):
    """Keeps no history and deletes nothing, as it says."""

    promises: ClassVar[Mapping[str, bool]] = {"history": False, "retention": False}


def failing(error: Exception) -> Callable[..., Any]:
    """A method that raises."""

    async def method(*args: Any) -> None:
        raise error

    return method


ALL_OF_HISTORY = (
    "history_begins_with_the_creation history_is_every_transition_in_order the_seq_may_skip "
    "a_commit_without_a_transition_makes_no_line leases_and_signals_make_no_line a_refused_commit_makes_no_line"
)
ALL_OF_DELETE = (
    "deleting_tells_whether_there_was_one a_deleted_run_is_gone a_deleted_id_can_be_used_anew "
    "deleting_forgets_signals_that_came_early deleting_leaves_other_runs"
)

# fmt: off
MUTANTS: dict[str, tuple[type[MemoryBackend], Methods, str]] = {
    "declares no history and tells one": (
        SaysNoHistory, {},
        ALL_OF_HISTORY + " of_twenty_commits_at_once_one_wins many_runs_commit_at_once runs_are_apart"),
    "declares no history and tells of the last line": (
        SaysNoHistory, {"history": lambda s, honest, run_id: s._history.get(run_id, [])[-1:]},
        ALL_OF_HISTORY),
    "declares a history and has none": (
        MemoryBackend, {"history": lambda s, honest, run_id: ()},
        ALL_OF_HISTORY.replace("a_commit_without_a_transition_makes_no_line ", "")),
    "declares no retention and deletes": (SaysNoRetention, {}, ALL_OF_DELETE + " a_run_that_is_gone_is_refused"),
    "declares no retention and says that there was nothing": (
        WithoutRetention, {"delete": lambda s, honest, run_id: False}, ALL_OF_DELETE),
    "deletes, and then refuses": (
        WithoutRetention, {"delete": lambda s, honest, run_id: (s._delete(run_id), honest(run_id))[1]},
        ALL_OF_DELETE),
    "forgets the signals, and then refuses": (
        WithoutRetention, {"delete": lambda s, honest, run_id: (s._mail.pop(run_id, None), honest(run_id))[1]},
        "a_deleted_run_is_gone a_deleted_id_can_be_used_anew deleting_forgets_signals_that_came_early "
        "deleting_leaves_other_runs recipients_without_a_run_are_told"),
    "frees the lease, and then refuses": (
        WithoutRetention,
        {"delete": lambda s, honest, run_id: before(s.release(run_id, 1), lambda: honest(run_id))},
        "deleting_tells_whether_there_was_one renewing_reports_what_is_lost"),
    "refuses as if it could another time": (
        WithoutRetention, {"delete": failing(StoreUnavailableError("not now"))}, ALL_OF_DELETE),
    "refuses with an error of the driver": (
        WithoutRetention, {"delete": failing(PermissionError("no"))}, ALL_OF_DELETE),
    "refuses to delete after it was closed": (
        WithoutRetention, {"delete": failing(StoreError("no"))}, "after_closing_every_call_is_refused"),
    "declares retention and refuses": (MemoryBackend, {"delete": failing(StoreError("no"))}, ALL_OF_DELETE),
}
# fmt: on
PAIRS = [(name, f"test_{clause}") for name, (_, _, clauses) in MUTANTS.items() for clause in clauses.split()]
ABOUT_ONE = sorted({clause for _, clause in PAIRS})
"""The clauses that a wrong declaration of history or retention can fail."""
# pairwise: every clause with both declined, and with both kept in test_contract.py; these also with one declined
KEPT = [
    *((WithNeither, clause) for clause in CLAUSES),
    *((store, clause) for store in (WithoutHistory, WithoutRetention) for clause in ABOUT_ONE),
]


@pytest.mark.parametrize(("store", "clause"), KEPT)
def test_an_honest_store_keeps_every_clause(store: type[MemoryBackend], clause: str, tmp_path: Path) -> None:
    """A store that declines what is optional, and says so, keeps the clause; none is skipped."""
    getattr(OnStore(store), clause)(tmp_path)


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_store_that_declares_wrongly_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that does other than it declares fails the clauses that are about that, and each says why."""
    base, methods, _ = MUTANTS[mutant]

    with pytest.raises((AssertionError, CanoError, PermissionError)) as failed:
        getattr(OnStore(broken(base, **methods)), clause)(tmp_path)
    assert str(failed.value)


class OfUrl(StoreBackendContract):
    """The contract, for the store that an installed plugin opens."""

    url = "memory://"

    def make_url(self, tmp_path: Path) -> str:
        """The URL."""
        return self.url


def installed(monkeypatch: pytest.MonkeyPatch, *, needs_options: bool = False, **declared: Capabilities) -> OfUrl:
    """The contract where a plugin is installed that opens stores in memory, and declares this of them."""

    @hookimpl
    def cano_open_store(url: str) -> MemoryBackend:
        if url == "memory://" and needs_options:
            raise ConfigurationError("memory:// needs options")
        return MemoryBackend(strict="strict=1" in url)

    @hookimpl
    def cano_stores() -> dict[str, Capabilities]:
        return declared

    return with_plugin(monkeypatch, cano_open_store=cano_open_store, cano_stores=cano_stores)


def with_plugin(monkeypatch: pytest.MonkeyPatch, **hooks: Callable[..., Any]) -> OfUrl:
    """The contract where only a plugin with these hooks is installed."""
    kernel = Kernel(discover=False, plugins=[SimpleNamespace(__name__="mine", **hooks)])
    kernel.load()
    monkeypatch.setattr("cano.testing.contract_base._plugins", lambda: kernel)
    return OfUrl()


IN_MEMORY, STRICT = MemoryBackend().capabilities, MemoryBackend(strict=True).capabilities


@pytest.mark.parametrize("flag", Capabilities._fields)
def test_a_plugin_that_declares_something_else_fails(
    flag: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each flag that a plugin declares must be that of the store that it opens."""
    contract = installed(monkeypatch, memory=IN_MEMORY._replace(**{flag: not getattr(IN_MEMORY, flag)}))

    with pytest.raises(AssertionError, match=flag):
        contract.test_its_plugin_declares_the_same(tmp_path)


def test_a_plugin_that_declares_nothing_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A plugin that opens stores must declare them."""
    contract = installed(monkeypatch, other=IN_MEMORY)

    with pytest.raises(AssertionError, match=r"memory.*cano_stores"):
        contract.test_its_plugin_declares_the_same(tmp_path)


def test_a_plugin_declares_what_holds_without_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a plugin declares is what holds without options, whatever those of the tested URL change."""
    contract = installed(monkeypatch, memory=IN_MEMORY)
    for contract.url in ("memory://", "memory://?strict=1"):
        contract.test_its_plugin_declares_the_same(tmp_path)
    contract = installed(monkeypatch, memory=STRICT)
    contract.url = "memory://?strict=1"
    with pytest.raises(AssertionError):
        contract.test_its_plugin_declares_the_same(tmp_path)

    contract = installed(monkeypatch, memory=STRICT, needs_options=True)
    contract.url = "memory://?strict=1"
    contract.test_its_plugin_declares_the_same(tmp_path)


class Named(MemoryBackend):
    """A store in memory that knows its URL, and shows it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def __repr__(self) -> str:
        return f"<Named {self.url}>"


class Closed(Named):
    """Cannot be opened, and shows its URL as a note."""

    def __repr__(self) -> str:
        return "<Closed>"

    async def open(self) -> None:
        """Refuse."""
        error = StoreUnavailableError("it is closed")
        error.add_note(self.url)
        raise error


def refuse(message: str) -> Callable[[str], MemoryBackend]:
    """Refuses every URL."""

    def open_store(url: str) -> MemoryBackend:
        raise ConfigurationError(message.format(url=url))

    return open_store


@pytest.mark.parametrize(
    ("open_store", "clause"),
    [
        (lambda url: MemoryBackend(), "test_an_unknown_option_is_refused"),
        (refuse("this URL is wrong"), "test_an_unknown_option_is_refused"),
        (refuse("{url} is wrong"), "test_a_password_is_never_shown"),
        (Named, "test_a_password_is_never_shown"),
        (Closed, "test_a_password_is_never_shown"),
    ],
)
def test_a_plugin_that_is_careless_with_urls_fails(
    open_store: Callable[[str], MemoryBackend], clause: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A plugin that takes any option, or shows the URL, fails the clause that is about that."""

    @hookimpl
    def cano_open_store(url: str) -> MemoryBackend:
        return open_store(url)

    with pytest.raises(AssertionError):
        getattr(with_plugin(monkeypatch, cano_open_store=cano_open_store), clause)(tmp_path)
