"""Search attributes on each store: found after each step, in a namespace, in copies and in encrypted stores."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cano import Condition, ConfigurationError, Kernel, Retention, StoreBackend, Workflow, WorkflowError, current_step
from cano_encryption import KEYS_ENV, new_key

from tests.acceptance.durability.shared import ONLY
from tests.acceptance.venvs import checked


def order(**options: Any) -> Workflow[str]:
    """A workflow that fails for amounts of 13, and sets its region."""
    flow = Workflow("PAY", name="order", attributes={"tenant": str, "amount": Decimal, "region": str}, **options)

    @flow.on("PAY")
    async def pay(store: Any) -> str:
        current_step().attributes["region"] = "north" if store["amount"] < 10 else "south"
        return "SEND"

    @flow.on("SEND")
    async def send(store: Any) -> str:
        if store["amount"] == 13:
            raise ValueError("unlucky")
        return "END"

    return flow.add_exit_state("END")


async def fill(kernel: Kernel, flow: Workflow[str]) -> None:
    """Fifteen orders of two tenants, two of which fail."""
    for number in range(15):
        data = {"tenant": ("acme", "zoo")[number % 2], "amount": Decimal(number)}
        with suppress(WorkflowError):
            await kernel.run(flow, data, run_id=f"o{number}")


async def ids(kernel: Kernel, **given: Any) -> list[str]:
    """The ids of the runs that match, which are as many as are counted."""
    found = [run.run_id for run in await kernel.runs(**given)]
    assert await kernel.runs(**given).count() == len(found)
    assert [run.run_id async for run in kernel.runs(**given)] == found
    return found


async def test_each_store_finds_runs(store: str | StoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """By values and ranges, together with fields, page by page; in each namespace its own; none that was deleted."""
    monkeypatch.setattr("cano.run_filter.PAGE", 2)
    async with Kernel(store=store, **ONLY) as kernel:
        await fill(kernel, order())
        assert await ids(kernel, where="tenant = acme and amount >= 10") == ["o14", "o12", "o10"]
        assert await ids(kernel, where="tenant = zoo and status = failed") == ["o13"]
        assert await ids(kernel, where="region = south and status != failed") == ["o14", "o12", "o11", "o10"]
        assert await ids(kernel, where="amount in (3, 4, 99) and state = END") == ["o4", "o3"]
        assert await ids(kernel, attributes={"amount": [Condition(">", 2), Condition("<", 5)]}) == ["o4", "o3"]
        assert await ids(kernel, where="tenant != acme and updated > 1h ago and amount < 10", limit=2) == [
            "o9",
            "o7",
        ]
        for where, number in (
            ("status in (failed, cancelled, failed, running)", 1),
            ("status != failed and status != succeeded and state in (END, SEND)", 0),
            ("status in (failed, succeeded) and status != failed and tenant = zoo", 6),
            ("workflow in (order, other) and state != END and tenant = zoo", 1),
            ("workflow != order", 0),
            ("state != END and workflow != other", 1),
            ("error != KeyError and status in (failed, parked)", 1),
        ):  # fmt: skip
            assert len(await ids(kernel, where=where)) == number, where
            assert len(await ids(kernel, where=where, limit=1)) == min(number, 1), where
        assert (await kernel.get("o13")).attributes == {"tenant": "zoo", "amount": 13, "region": "south"}
        await kernel.fork("o13", 1, "again", changes={"amount": Decimal(1)})
        assert await ids(kernel, where="amount = 1") == ["again", "o1"]
        report = await kernel.fork_many("tenant = zoo and status = failed", "-first", seq=0)
        assert report.done == 1
        assert (await kernel.get("o13-first")).attributes == {"tenant": "zoo", "amount": 13}
        refused = await kernel.fork_many("tenant = zoo and status = failed", "-last", seq=7)
        assert "has no transition 7" in refused.refused["o13"]
        every = Retention(on_terminal="delete")
        assert await kernel.prune(every, where="tenant = acme and amount < 4", dry_run=True) == ["o2", "o0"]
        assert await kernel.prune(every, where="tenant = acme and amount < 4") == ["o2", "o0"]
        assert await ids(kernel, where="amount < 4") == ["again", "o3", "o1"]
        assert await kernel.prune(Retention(keep_last=2), where="region = south") == ["o12", "o11", "o10"]
        await kernel.prune(every)
        assert await ids(kernel, where="tenant != ''") == ["o13-first", "again"]
    if isinstance(store, str):
        async with Kernel(store=store, namespace="part", **ONLY) as kernel:
            await kernel.run(order(), {"tenant": "acme", "amount": Decimal(1)}, run_id="o")
            assert await ids(kernel, where="amount = 1") == ["o"]


async def test_an_encrypted_store_refuses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the workflow allows that they are in clear; what a run shows is sealed all the same."""
    monkeypatch.setenv(KEYS_ENV, new_key())
    options = {**ONLY, "plugins": [*ONLY["plugins"], "encryption"]}
    async with Kernel(store=f"sqlite:///{tmp_path}/runs.db?codec=encrypt", **options) as kernel:
        with pytest.raises(ConfigurationError, match=r"'order' has search attributes, which .* in clear;"):
            await kernel.run(order(), {"tenant": "acme", "amount": Decimal(1)})
        await fill(kernel, order(clear_attributes=True))
        assert await ids(kernel, where="tenant = acme and amount >= 10") == ["o14", "o12", "o10"]
        assert await kernel.runs().count() == 15
        assert (await kernel.get("o13")).attributes == {"tenant": "zoo", "amount": 13, "region": "south"}


async def test_a_copy_is_found(tmp_path: Path) -> None:
    """`cano migrate-store` copies them, also what is set after the creation."""
    source, target = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db?codec=zstd"
    async with Kernel(store=source, **ONLY) as kernel:
        await fill(kernel, order())
    await asyncio.to_thread(checked, sys.executable, "-m", "cano", "migrate-store", source, target)
    async with Kernel(store=target, **{**ONLY, "plugins": [*ONLY["plugins"], "zstd"]}) as kernel:
        assert await ids(kernel, where="region = south and tenant = acme") == ["o14", "o12", "o10"]
    third = f"sqlite:///{tmp_path}/c.db?codec=zstd"
    await asyncio.to_thread(checked, sys.executable, "-m", "cano", "migrate-store", target, third)
    async with Kernel(store=third, **{**ONLY, "plugins": [*ONLY["plugins"], "zstd"]}) as kernel:
        assert await ids(kernel, where="region = south and tenant = acme") == ["o14", "o12", "o10"]
