"""`cano export` and `cano import`: a run from one store to another, in a file."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cano_cli.main import make_app
from click.testing import CliRunner, Result

Cano = Callable[..., Result]


@pytest.fixture
def order(cano: Cano, project: Path, store: str) -> str:
    """The id of a failed order."""
    (project / "broken").touch()
    cano("run", "shop", "--run-id", "f 1")
    (project / "broken").unlink()
    return "f 1"


def test_a_run_goes_home(cano: Cano, project: Path, order: str) -> None:
    """The developer imports it into a new store, edits a fork of it, and executes that."""
    done = cano("export", order, "-o", "run.cano")
    assert (done.exit_code, done.stderr) == (0, "")
    size = (project / "run.cano").stat().st_size
    assert done.stdout == f"run 'f 1' exported to run.cano: {size:,} bytes, not encrypted\n"
    assert stat.S_IMODE((project / "run.cano").stat().st_mode) == 0o600
    assert [path.name for path in project.glob("*.part")] == []
    home = "sqlite:///home.db"
    imported = cano("import", "run.cano", "--store", home)
    assert (imported.exit_code, imported.stderr) == (0, "")
    assert imported.stdout.startswith("run 'f 1' imported, failed in state ")
    again = cano("import", "run.cano", "--store", home, "--json")
    assert json.loads(again.stdout)["run_id"] == order
    twice = cano("import", "run.cano", "--store", home)
    assert twice.stdout.startswith("run 'f 1' had been imported before, and is failed in state ")
    assert cano("fork", order, "1", "mine", "--set", "name=Ada", "--store", home).exit_code == 0
    assert json.loads(cano("resume", "shop", "mine", "--json", "--store", home).stdout)["data"]["name"] == "Ada"
    assert json.loads(cano("show", order, "--json", "--store", home).stdout)["status"] == "failed"


def test_an_unfinished_run_names_the_commands_that_help(cano: Cano, project: Path, store: str) -> None:
    """No worker executes it; the message says what does."""
    (project / "stop").touch()
    cano("run", "shop", "--run-id", "w1", "--data", "wait=1")
    assert cano("recover", "shop").exit_code == 0
    assert cano("export", "w1", "-o", "run.cano", "--json").exit_code == 0
    imported = cano("import", "run.cano", "--id", "w 2")
    assert imported.exit_code == 0
    assert "to continue it here: cano resume MODULE:FLOW 'w 2'\n" in imported.stdout
    assert "'w 2' 1 'w 2-2'" in imported.stdout.replace("w 2' 2 ", "w 2' 1 ")
    assert "only resume() continues it" in cano("explain", "w 2").stdout.replace("\n", " ")
    assert cano("recover", "shop").exit_code == 0
    assert json.loads(cano("show", "w 2", "--json").stdout)["status"] == "parked"
    assert "cano resume MODULE:FLOW 'w 2'" in cano("run", "shop", "--run-id", "w 2").stderr
    moved = cano("migrate-store", "sqlite:///runs.db", "sqlite:///moved.db", "--json")
    assert json.loads(moved.stdout)["copied"] == 2
    assert cano("signal", "w 2", "approved", "1", "--store", "sqlite:///moved.db").exit_code == 0
    assert cano("recover", "shop", "--store", "sqlite:///moved.db").exit_code == 0
    assert json.loads(cano("show", "w 2", "--json", "--store", "sqlite:///moved.db").stdout)["status"] == "parked"
    assert (
        json.loads(cano("resume", "shop", "w 2", "--json", "--store", "sqlite:///moved.db").stdout)["run_id"] == "w 2"
    )


def test_files_through_pipes(cano: Cano, project: Path, order: str) -> None:
    """`-` stands for stdin and stdout."""
    done = cano("export", order, "-o", "-")
    assert done.exit_code == 0
    assert "exported to -" in done.stderr
    (project / "copy.cano").write_bytes(done.stdout_bytes)
    assert cano("import", "copy.cano", "--id", "copy").exit_code == 0
    piped = CliRunner().invoke(make_app(), ["import", "-", "--id", "piped"], input=done.stdout_bytes)
    assert piped.exit_code == 0


def test_redacted_exports(cano: Cano, project: Path, order: str) -> None:
    """`--redact` and `--secret` keep values out of the file."""
    cano("fork", order, "1", "secret", "--set", "password=s3cret", "--set", "pin=s4cret", "--set", "name=Ada")
    cano("export", "secret", "-o", "plain.cano")
    cano("export", "secret", "-o", "redacted.cano", "--redact")
    cano("export", "secret", "-o", "more.cano", "--secret", "pin")
    found = {
        name: [word in (project / f"{name}.cano").read_bytes() for word in (b"s3cret", b"s4cret", b"Ada")]
        for name in ("plain", "redacted", "more")
    }
    assert found == {"plain": [True, True, True], "redacted": [False, True, True], "more": [False, False, True]}


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["export", "f 1"], "Missing option '-o'"),
        (["export", "nope", "-o", "a.cano"], "the store has no run 'nope'"),
        (["export", "f 1", "-o", "there.cano"], "the file there.cano exists"),
        (["export", "f 1", "-o", "no/such/a.cano"], "the file no/such/a.cano cannot be written: No such file"),
        (["export", "f 1", "-o", "-", "--json"], "-o - writes the file to stdout"),
        (["import", "nope.cano"], "the file nope.cano cannot be read: No such file"),
        (["import", "there.cano"], "it does not begin as such a file does; pass a file that `cano export` has made"),
        (["import", "."], "the file . cannot be read: Is a directory"),
    ],
)
def test_wrong_uses(cano: Cano, project: Path, order: str, args: list[str], problem: str) -> None:
    """Each is a usage error that says what is wrong, and no file and no run is left."""
    (project / "there.cano").write_text("mine")
    result = cano(*args)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.replace("│", " ").split())
    assert (project / "there.cano").read_text() == "mine"
    assert [path.name for path in project.glob("*.cano*")] == ["there.cano"]
    assert [run["run_id"] for run in json.loads(cano("runs", "--json").stdout)] == [order]
