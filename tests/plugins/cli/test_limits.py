"""`cano limits`: the limits of all processes, with the runs that hold their slots or wait for one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from cano import Kernel, SlotRequest, SlotStore, WantedSlot
from cano.testing.contract_base import LATER, NOW, new_run
from click.testing import Result

Cano = Callable[..., Result]

ODD = "odd\x1b[31m\u202e"


async def fill(url: str) -> None:
    """Let three runs ask for slots of a limit with two."""
    async with Kernel(store=url) as kernel:
        store = kernel.backend
        assert isinstance(store, SlotStore)
        for number, run_id in enumerate(("first", ODD, "third")):
            await store.create(new_run(run_id, expires=LATER))
            wanted = [WantedSlot("pool[acme]", 2)]
            await store.take_slots(SlotRequest(run_id, 1, None, wanted, NOW + number), NOW + number)


def test_limits(cano: Cano, tmp_path: Path) -> None:
    """Each limit in use is listed with its size, holders and waiting runs, for people and for programs."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    asyncio.run(fill(url))

    plain, as_json = cano("limits", "--store", url), cano("limits", "--store", url, "--json")

    assert (plain.exit_code, as_json.exit_code) == (0, 0)
    lines = plain.stdout.splitlines()
    assert lines[0].split() == ["limit", "size", "run", "does", "since"]
    assert lines[1].split()[:4] == ["pool[acme]", "2", "first", "holds"]
    assert lines[3].split()[:4] == ["pool[acme]", "2", "third", "waits"]
    assert "\x1b" not in plain.stdout
    assert json.loads(as_json.stdout) == [
        {
            "limit": "pool[acme]",
            "size": 2,
            "holders": [
                {"run_id": "first", "since": "2023-11-14T22:13:20.123456+00:00"},
                {"run_id": ODD, "since": "2023-11-14T22:13:21.123456+00:00"},
            ],
            "waiting": [{"run_id": "third", "since": "2023-11-14T22:13:22.123456+00:00"}],
        }
    ]


def test_no_limits(cano: Cano, tmp_path: Path) -> None:
    """A store whose limits no run uses says so."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"

    async def create() -> None:
        async with Kernel(store=url):
            pass

    asyncio.run(create())

    assert cano("limits", "--store", url).stdout == "no limits are in use\n"
    assert json.loads(cano("limits", "--store", url, "--json").stdout) == []
