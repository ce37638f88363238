"""`cano migrate-store` between stores whose URLs name layers around the codec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.plugins.cli.stored import stored_at
from tests.plugins.cli.test_migrate_store import stop_in_pay

pytestmark = pytest.mark.usefixtures("store")

Cano = Callable[..., Result]

SRC, DST = "sqlite:///runs.db", "sqlite:///new.db"
TEXT = """
    from cano import CodecLayer, SerializationError, hookimpl

    CANO_API_VERSION = 2


    class Layer:
        def __init__(self, mark):
            self.mark = mark

        def wrap(self, data):
            if self.mark == b"no" and b"secret" in data:
                raise SerializationError("this is not to be kept")
            return self.mark + data

        def unwrap(self, data):
            if not data.startswith(self.mark):
                raise SerializationError(f"this was not marked {self.mark.decode()}")
            return data[len(self.mark):]


    @hookimpl
    def cano_codec_layer(spec):
        name, _, mark = spec.partition(":")
        return Layer(mark.encode()) if name == "mark" else None
"""


def test_layers_are_changed(cano: Cano, project: Path, install: Callable[..., None]) -> None:
    """SRC's layers are taken off and DST's put on, payloads and history included; the same ones are left alone."""
    install("mark", TEXT)
    a, b = f"{SRC}?codec=mark:aa", f"{DST}?codec=mark:bb,mark:c"
    stop_in_pay(cano, project, "r1", "--data", "wait=1", "--store", a)
    cano("signal", "r1", "approved", '"Ada"', "--store", a)

    first = cano("migrate-store", a, b)
    same = cano("migrate-store", a, "sqlite:///third.db?codec=mark:aa")
    again = cano("migrate-store", a, b)
    resumed = json.loads(cano("run", "shop", "--run-id", "r1", "--store", b, "--json").stdout)

    assert (first.exit_code, same.exit_code) == (0, 0)
    assert again.stdout == "copied 0 runs (0 transitions), 1 up to date\n"
    assert stored_at("sqlite:///third.db") == stored_at(SRC)
    assert resumed["data"]["by"] == "Ada"
    wrapped = [value for _, value in stored_at(DST)["r1"][1]]
    assert wrapped
    assert all(value.startswith(b"cbb") for value in wrapped)


def test_layers_that_refuse(cano: Cano, install: Callable[..., None]) -> None:
    """A value that DST's layers do not take, or SRC's cannot read, is named; nothing is half copied."""
    install("mark", TEXT)
    cano("run", "flows", "--run-id", "r1", "--data", "name=secret")
    cano("run", "flows", "--run-id", "r2")

    refused = json.loads(cano("migrate-store", SRC, f"{DST}?codec=mark:no", "--json").stdout)
    unreadable = json.loads(cano("migrate-store", f"{SRC}?codec=mark:x", "sqlite:///c.db", "--json").stdout)

    assert refused["refused"] == [
        {"run_id": "r1", "detail": "DST's layers refuse it: the key 'name': this is not to be kept"}
    ]
    assert sorted(stored_at(DST)) == ["r2"]
    assert {run["run_id"] for run in unreadable["corrupt"]} == {"r1", "r2"}
    assert stored_at("sqlite:///c.db") == {}


def test_into_files_and_back(cano: Cano, project: Path) -> None:
    """Large values go into files under DST's layers, and come back out of them."""
    stop_in_pay(cano, project, "r1", "--data", f"number={'7' * 500}", "--data", "wait=1")
    cano("signal", "r1", "approved", '"Ada"')
    there, back = f"{DST}?codec=zstd,offload:20:blobs", "sqlite:///back.db"

    first = cano("migrate-store", SRC, there)
    again = cano("migrate-store", SRC, there)
    kept = [file for file in (project / "blobs").rglob("*") if file.is_file()]
    assert kept
    assert cano("migrate-store", there, back).exit_code == 0
    for file in kept:
        file.unlink()
    gone = json.loads(cano("migrate-store", there, "sqlite:///other.db", "--json").stdout)

    assert first.stdout == "copied 1 run (1 transition)\n"
    assert again.stdout == "copied 0 runs (0 transitions), 1 up to date\n"
    assert stored_at(back) == stored_at(SRC)
    assert stored_at(DST) != stored_at(SRC)
    assert [each["run_id"] for each in gone["corrupt"]] == ["r1"]
