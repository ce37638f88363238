"""`cano --namespace`: every command works in that part of the store, and in no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Cano = Callable[..., Result]


@pytest.fixture
def url(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with the run r1 in each of two namespaces, and the option that names it."""
    monkeypatch.delenv("CANO_NAMESPACE", raising=False)
    return f"sqlite:///{tmp_path / 'runs.db'}"


def ids(done: Result) -> list[str]:
    """The ids in a list of runs."""
    assert done.exit_code == 0, done.output
    return [run["run_id"] for run in json.loads(done.stdout)]


def test_commands(cano: Cano, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, signals, lists, the audit, checks and copies; hints repeat the option, and the variable is read, too."""
    run = "run", "flows:flow", "--run-id", "r1", "--store", url
    assert cano("--namespace", "a", *run).exit_code == 0
    assert cano("--namespace", "b", *run).exit_code == 0
    absent = cano("runs", "--store", url)
    assert absent.exit_code == 2
    assert "does not exist" in absent.stderr
    assert "the namespace 'c' does not exist" in cano("--namespace", "c", "runs", "--store", url).stderr

    assert cano("--namespace", "a", "delete", "r1", "--store", url).exit_code == 0
    assert ids(cano("--namespace", "a", "runs", "--store", url, "--json")) == []
    assert "delete" in cano("--namespace", "a", "audit", "--store", url).stdout
    monkeypatch.setenv("CANO_NAMESPACE", "b")
    assert ids(cano("runs", "--store", url, "--json")) == ["r1"]
    assert cano("audit", "--store", url).stdout == "no entries\n"
    assert cano("check", "--store", url).exit_code == 0

    copied = cano("migrate-store", url, f"sqlite:///{tmp_path / 'copy.db'}")
    assert "copied 1 run" in copied.stdout
    assert {each.name for each in tmp_path.glob("copy.db*.db")} == {"copy.db@b.db"}


def test_a_store_moves_into_a_namespace(cano: Cano, url: str, tmp_path: Path) -> None:
    """`migrate-store` copies from part to part, also within one store, with files that the layers keep outside."""
    place = f"{url}?codec=offload:10:{tmp_path / 'blobs'}"
    assert cano("run", "flows:flow", "--run-id", "r1", "--data", "name=" + "x" * 99, "--store", place).exit_code == 0
    moved = cano("migrate-store", place, place, "--to-namespace", "a")
    assert moved.exit_code == 0, moved.output
    shown = cano("--namespace", "a", "show", "r1", "--store", place)
    assert "x" * 99 in shown.stdout
    back = cano("--namespace", "a", "migrate-store", place, f"sqlite:///{tmp_path / 'back.db'}", "--to-namespace", "")
    assert "copied 1 run" in back.stdout
    assert (tmp_path / "back.db").exists()

    same = cano("migrate-store", place, place, "--from-namespace", "a", "--to-namespace", "a")
    assert "SRC and DST are the same store: " in same.stderr
    assert "printable text" in cano("migrate-store", place, url, "--to-namespace", "a\nb").stderr


def test_hints(cano: Cano, url: str) -> None:
    """The command that a message recommends has the same namespace."""
    failed = cano("--namespace", "a b", "run", "flows:flow", "--run-id", "r1", "--store", url, "--data", "broken=1")
    assert "cano --namespace 'a b' resume flows:flow r1" in failed.stderr


def test_wrong_names(cano: Cano, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong name is a usage error, also an empty one, so that a name that is missing is not the store itself."""
    wrong = cano("--namespace", "a\x1bb", "runs", "--store", url)
    assert wrong.exit_code == 2
    assert "Invalid value for '--namespace'" in wrong.stderr
    assert "printable text" in wrong.stderr
    assert cano("--namespace", "", "runs", "--store", url).exit_code == 2
    monkeypatch.setenv("CANO_NAMESPACE", "")
    empty = cano("runs", "--store", url)
    assert empty.exit_code == 2
    assert "Invalid value for '--namespace' (env var: 'CANO_NAMESPACE')" in empty.stderr
    assert "in the namespace 'a' does not exist" in cano("--namespace", "a", "runs", "--store", url).stderr


def test_a_scheduler_has_its_own_kernel(cano: Cano, url: str, project: Path) -> None:
    """`cano schedule` does not ignore the option: the scheduler's kernel must work in that namespace."""
    (project / "jobs.py").write_text(
        "from cano import Kernel\nfrom cano_scheduler import Scheduler\n"
        f"def make():\n    return Scheduler(Kernel(store={url!r}, namespace='a'))\n",
        encoding="utf-8",
    )
    assert cano("--namespace", "a", "schedule", "list", "-s", "jobs:make").exit_code == 0
    assert cano("schedule", "list", "-s", "jobs:make").exit_code == 0
    other = cano("--namespace", "b", "schedule", "list", "-s", "jobs:make")
    assert other.exit_code == 2
    assert "in the namespace 'a', so --namespace cannot be 'b'" in other.stderr
