"""`cano audit`: who acted on a run, for people and programs; texts from outside cannot speak to the terminal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import AuditEntry, Kernel, RunRecord, Signal
from cano.testing.contract_base import NOW, new_run
from cano_cli.copied_audit import Importer, copy_audit
from cano_cli.hints import display_name
from cano_sqlite import SqliteBackend
from click.testing import Result

Cano = Callable[..., Result]

ODD = "Eve\x1b[31m\n\u202e"


async def filled(url: str, *entries: AuditEntry) -> None:
    """Add entries to a store, which is created."""
    async with Kernel(store=url) as kernel:
        assert isinstance(kernel.backend, SqliteBackend)
        await kernel.backend.add_audit(entries)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with three entries."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    entries = [
        AuditEntry("one", "signal", ODD, NOW, f"go{ODD}"),
        AuditEntry("two", "cancel", "Bob", NOW + 1),
        AuditEntry("one", "delete", "Ada", NOW + 2),
    ]
    asyncio.run(filled(url, *entries))
    return url


def test_a_table(cano: Cano, url: str) -> None:
    """The entries of the store, or of one run, oldest first; what could speak to a terminal is escaped."""
    every = cano("audit", "--store", url)
    one = cano("audit", "one", "--store", url)

    assert (every.exit_code, one.exit_code) == (0, 0)
    assert [line.split()[2:5] for line in every.stdout.splitlines()[1:]] == [
        ["Eve\\x1b[31m\\n\\u202e", "signal", "one"], ["Bob", "cancel", "two"], ["Ada", "delete", "one"],
    ]  # fmt: skip
    assert [line.split()[2:4] for line in one.stdout.splitlines()[1:]] == [
        ["Eve\\x1b[31m\\n\\u202e", "signal"], ["Ada", "delete"],
    ]  # fmt: skip
    assert "go" + "Eve\\x1b[31m\\n\\u202e" in one.stdout
    assert "\x1b" not in every.stdout + one.stdout
    assert "\u202e" not in every.stdout + one.stdout
    assert "\u202e" in cano("--raw", "audit", "--store", url).stdout
    assert cano("audit", "three", "--store", url).stdout == "no entries\n"


def test_for_programs(cano: Cano, url: str) -> None:
    """JSON has every field, and times with an offset."""
    entries = json.loads(cano("audit", "--store", url, "--json").stdout)

    assert [entry["run_id"] for entry in entries] == ["one", "two", "one"]
    assert entries[0] | {"at": ""} == {
        "run_id": "one", "action": "signal", "actor": ODD, "at": "", "detail": f"go{ODD}",
    }  # fmt: skip
    assert entries[0]["at"].startswith("2023-11-1")


def test_the_newest_entries(cano: Cano, url: str) -> None:
    """--limit shows the newest ones, and says that there are more."""
    done = cano("audit", "--store", url, "--limit", "1")

    assert [line.split()[2] for line in done.stdout.splitlines()[1:]] == ["Ada"]
    assert done.stderr == "there are older entries; --limit N shows more\n"


def test_pruning(cano: Cano, url: str) -> None:
    """--prune deletes old entries of all runs, and leaves one of its own."""
    refused = cano("audit", "one", "--store", url, "--prune", "60")
    done = cano("--actor", "Zoe", "audit", "--store", url, "--prune", "60")
    (left,) = json.loads(cano("audit", "--store", url, "--json").stdout)

    assert (refused.exit_code, done.stdout) == (2, "3 entries deleted\n")
    assert (left["run_id"], left["action"], left["actor"]) == (None, "audit pruned", "Zoe")
    assert cano("audit", "--store", url, "--prune", "0").exit_code == 2


@pytest.mark.parametrize("actor", ["x" * 513, "é" * 257, "a\0b"])
def test_an_odd_actor_is_refused(cano: Cano, url: str, actor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An actor is a text of at most 512 bytes; the message names the option's variable, or the argument."""
    if "\0" not in actor:  # no variable can contain it
        monkeypatch.setenv("CANO_ACTOR", actor)
        refused = cano("audit", "--store", url)
        assert (refused.exit_code, "CANO_ACTOR must be" in refused.stderr) == (2, True)
        monkeypatch.delenv("CANO_ACTOR")
        refused = cano("--actor", actor, "audit", "--store", url)
        assert (refused.exit_code, "--actor" in refused.stderr) == (2, True)
    with pytest.raises(Exception, match="actor must be"):
        Kernel(actor=actor)


def test_the_longest_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """An actor of 512 bytes is taken; the argument counts before the variable, and an empty variable is none."""
    monkeypatch.setenv("CANO_ACTOR", "é" * 256)
    assert Kernel().actor == "é" * 256
    assert Kernel(actor="Ada").actor == "Ada"
    monkeypatch.setenv("CANO_ACTOR", "")
    monkeypatch.setenv("LOGNAME", "é" * 600)
    assert Kernel().actor == "é" * 256


async def test_an_imported_run(tmp_path: Path) -> None:
    """The audit is copied once, however often that is repeated; of chosen runs, if they are named."""
    source, target = SqliteBackend(tmp_path / "a.db"), SqliteBackend(tmp_path / "b.db")
    for backend in (source, target):
        await backend.open()
    twice = AuditEntry("one", "signal", "Ada", NOW)
    other = AuditEntry("two", "cancel", "Bob", NOW + 1)
    await source.add_audit([twice, twice, other])

    for run_ids, expected in (({"one"}, [twice, twice]), (None, [twice, twice, other]), (None, [twice, twice, other])):
        await copy_audit(source, target, run_ids)
        assert list(await target.audit(None, None)) == expected

    (entry,) = Importer(target, "Ada", "sqlite:///a.db").entry("one", NOW)
    assert entry == AuditEntry("one", "import", "Ada", NOW, "from sqlite:///a.db")
    for backend in (source, target):
        await backend.close()


def test_a_copied_store(cano: Cano, url: str, tmp_path: Path) -> None:
    """`cano migrate-store` copies the audit, and adds who imported each run, once."""

    async def add_run(run: RunRecord) -> None:
        async with Kernel(store=url) as kernel:
            assert kernel.backend is not None
            await kernel.backend.create(run)
            await kernel.backend.put_signal(run.run_id, Signal("1", "go"))

    asyncio.run(add_run(new_run("two", holder=None, expires=None)))
    there = f"sqlite:///{tmp_path / 'there.db'}"
    for _ in range(2):
        assert cano("--actor", "Zoe", "migrate-store", url, there).exit_code == 0
    entries = json.loads(cano("audit", "--store", there, "--json").stdout)

    assert [(entry["run_id"], entry["action"], entry["actor"]) for entry in entries] == [
        ("one", "signal", ODD), ("two", "cancel", "Bob"), ("one", "delete", "Ada"), ("two", "import", "Zoe"),
    ]  # fmt: skip
    assert entries[-1]["detail"] == f"from {display_name(url)}"
