"""Random edits of an encrypted store: each is refused or harmless, and never gives a run another outcome.

An attack changes cells and rows to random values, to those of other rows, and to those that were there at an earlier
time, also whole tables. Runs that are deleted, and signals that are withheld, are outcomes that a writer can always
bring about: such a run does not end, or is gone.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cano import ConfigurationError, StoreError
from cano_encryption import KEYS_ENV, EncryptionLayer, new_key, read_keys
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.acceptance.sealing.contents import Contents, Database, File, Keys, Memory, Rows, kernel_on
from tests.acceptance.sealing.flows import GOODS, act, begin, ends, outcome, send

EXAMPLES = {"memory": 20, "sqlite": 12, "postgres": 5, "redis": 6}
MORE = 100 if os.environ.get("CANO_SOAK") else 1


class Edit(NamedTuple):
    """An edit of the rows. The numbers choose a table, rows, a column and a value."""

    kind: str
    table: int
    row: int
    time: int
    donor: int
    column: int
    noise: int


NUMBER = st.integers(0, 10_000)
KINDS = ("cell", "row", "delete", "insert", "noise", "table", "swap")
EDITS = st.lists(
    st.builds(Edit, st.sampled_from(KINDS), NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER), min_size=1, max_size=3
)


class Victim(NamedTuple):
    """A store, its rows at several times, and the histories of its runs."""

    contents: Contents
    times: list[Rows]
    histories: dict[str, list[Any]]


async def prepared(contents: Contents) -> Victim:
    """Bring a store with all runs about."""
    times = []
    for part in (begin, act, send):
        async with kernel_on(contents) as kernel:
            await part(kernel)
        times.append(contents.read())
    async with kernel_on(contents) as kernel:
        for run_id in GOODS:
            await outcome(kernel, run_id)
        histories = {run_id: await kernel.history(run_id) for run_id in GOODS}
    contents.write(times[-1])
    return Victim(contents, times, histories)


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Victim]:
    """Return a function that makes a victim of a kind, once."""
    made: dict[str, Victim] = {}
    keys = new_key("first")

    def victim(kind: str) -> Victim:
        os.environ[KEYS_ENV] = keys
        if kind not in made:
            contents: Contents
            if kind == "postgres":
                contents = Database(request.getfixturevalue("postgres"))
            elif kind == "redis":
                contents = Keys(request.getfixturevalue("redis"))
            else:
                folder: Path = tmp_path_factory.mktemp("sealed")
                contents = File(folder) if kind == "sqlite" else Memory(EncryptionLayer(read_keys(keys)))
            made[kind] = asyncio.run(prepared(contents))
        return made[kind]

    return victim


def edited(rows: Rows, times: list[Rows], edit: Edit) -> None:
    """Apply an edit to the rows."""
    tables = [name for name in rows if rows[name]]
    name = tables[edit.table % len(tables)]
    table, donors = rows[name], times[edit.time % len(times)][name]
    row = table[edit.row % len(table)]
    column = [*row][edit.column % len(row)]
    if edit.kind == "delete":
        table.remove(row)
    elif edit.kind == "table":
        table[:] = copy.deepcopy(donors)
    elif edit.kind == "noise":
        row[column] = disturbed(row[column], edit.noise)
    elif edit.kind == "swap":
        other = table[edit.donor % len(table)]
        row[column], other[column] = other[column], row[column]
    elif donors:
        donor = donors[edit.donor % len(donors)]
        if edit.kind == "cell":
            row[column] = donor[column]
        elif edit.kind == "row":
            row.update({each: value for each, value in donor.items() if each != "id"})
        else:
            new = dict(donor)
            if isinstance(new.get("id"), int):
                new["id"] = max(each["id"] for each in table) + 1
            table.append(new)


def disturbed(value: Any, noise: int) -> Any:
    """Return a value that differs a little, of the same type if that is simple."""
    if isinstance(value, bytes) and value:
        at = noise % len(value)
        return value[:at] + bytes([value[at] ^ (1 << noise % 8)]) + value[at + 1 :]
    if isinstance(value, str):
        return ["SHIP", "DONE", "COUNT", "running", "succeeded", "failed", "cancelled", "paid", ""][noise % 9]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + (noise % 5) - 2
    return value


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", EXAMPLES)
def test_no_edit_changes_an_outcome(victims: Callable[[str], Victim], kind: str) -> None:
    """Each run ends as it would have, does not end, or is refused; and so is its history."""
    victim = victims(kind)

    @settings(max_examples=EXAMPLES[kind] * MORE, suppress_health_check=[*HealthCheck])
    @given(edits=EDITS)
    def attack(edits: list[Edit]) -> None:
        rows = copy.deepcopy(victim.times[-1])
        for edit in edits:
            edited(rows, victim.times, edit)
        try:
            victim.contents.write(rows)
        except Exception as error:  # noqa: BLE001  # the database itself refuses it
            event(f"the database refuses it: {type(error).__name__}")
            return
        asyncio.run(attacked(victim))

    attack()


async def attacked(victim: Victim) -> None:
    """Check the outcome of every run."""
    refused = 0
    try:
        async with asyncio.timeout(60), kernel_on(victim.contents, lease=0.001) as kernel:
            assert kernel.backend is not None
            ids = {record.run_id for record in await kernel.runs()} | GOODS.keys()
            for run_id in ids:
                try:
                    if run_id not in GOODS:
                        assert await kernel.backend.load(run_id) is None, "a run was made up"
                        continue
                    for entry in await kernel.history(run_id):
                        assert entry._replace(at=0.0) in [each._replace(at=0.0) for each in victim.histories[run_id]]
                    data = await outcome(kernel, run_id)
                except StoreError:
                    refused += 1
                    continue
                assert data in (None, ends(run_id, GOODS[run_id]))
    except (StoreError, ConfigurationError) as error:  # such as a run in the place of the mark
        event(f"the kernel does not open, {type(error).__name__}")
    else:
        event(f"{refused} runs refused")
