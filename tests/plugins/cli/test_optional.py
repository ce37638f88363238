"""The commands on a store that keeps no history and deletes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Cano = Callable[..., Result]

SPARSE = """
    from cano import Capabilities, StoreError, hookimpl
    from cano_sqlite import SqliteBackend

    CANO_API_VERSION = 2


    class Sparse(SqliteBackend):
        def __init__(self, path):
            super().__init__(path)
            self.capabilities = Capabilities(history=False, retention=False)

        async def history(self, run_id):
            return ()

        async def delete(self, run_id):
            raise StoreError("this store keeps everything")


    @hookimpl
    def cano_stores():
        return {"sparse": Capabilities(history=False, retention=False)}


    @hookimpl
    def cano_open_store(url):
        return Sparse("runs.db") if url.startswith("sparse:") else None
"""


@pytest.fixture(autouse=True)
def run(cano: Cano, store: str, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in such a store, which the commands find by themselves."""
    install("sparse", SPARSE)
    monkeypatch.setenv("CANO_STORE", "sparse://ada:s3cret@host/runs")
    assert cano("run", "shop", "--run-id", "r1").exit_code == 0


def test_show(cano: Cano) -> None:
    """A run is shown with all that there is of it; in place of its history, why there is none."""
    shown = cano("show", "r1", "--flow", "shop")
    answer = json.loads(cano("show", "r1", "--json").stdout)

    assert shown.exit_code == 0
    assert "\nstatus:    succeeded in state shipped after 3 steps\n" in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith("no history: this store keeps none, so runs cannot be forked")
    assert answer["history"] is None
    assert answer["data"]["paid"] is True


@pytest.mark.parametrize(
    ("args", "lack"),
    [
        (["fork", "r1", "1", "r2"], "keeps no history of its runs, so none can be shown, and no run can be forked"),
        (["delete", "r1"], "keeps everything, so no run can be deleted"),
        (["prune", "--delete-all-finished"], "keeps everything, so no run can be deleted"),
    ],
    ids=["fork", "delete", "prune"],
)
def test_what_the_store_cannot_do(cano: Cano, project: Path, args: list[str], lack: str) -> None:
    """One line says which store lacks what and what to do, without the password; nothing is changed."""
    before = cano("runs", "--json").stdout
    result = cano(*args)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: the store 'sparse://host/runs' {lack}; use one with ")
    assert result.stderr.count("\n") == 1
    assert "s3cret" not in result.stderr
    assert cano("runs", "--json").stdout == before
