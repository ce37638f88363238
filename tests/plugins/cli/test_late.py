"""`cano show` and `cano explain` say that a run is late, and show its real wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from cano import Expect, Kernel, LateRun, Workflow, hookimpl, wait_for
from click.testing import Result


async def ask(store: Any) -> str:
    """Wait for an answer, for a day."""
    return wait_for("paid", then="done", timeout=86_400, on_timeout="done")


async def leave_a_late_run(store: str) -> float:
    """Leave a parked run that was late in its first moment, and return the end of its wait."""
    told = asyncio.Event()

    class Told:
        @hookimpl
        def cano_run_late(self, late: LateRun) -> None:
            told.set()

    flow = Workflow("ask", name="order", expect=Expect(within=0.2)).register("ask", ask).add_exit_state("done")
    async with Kernel(store=store, plugins=[Told()]) as kernel:
        await kernel.start(flow, {}, run_id="o-1")
        await told.wait()
        wait = (await kernel.get("o-1")).wait
        assert wait is not None
        assert wait.until is not None
        return wait.until


def test_show(cano: Callable[..., Result], store: str) -> None:
    """`show` has a line for it, and `--json` a list; the wait ends when the task said, not when the run became late."""
    until = asyncio.run(leave_a_late_run(store))
    shown = cano("show", "o-1").stdout
    found = json.loads(cano("show", "o-1", "--json").stdout)

    assert "the run takes longer than the expected 0.2 s; reported" in shown
    assert "; late: the run takes longer than the expected 0.2 s" in cano("explain", "o-1").stdout
    assert [(late["step"], late["within"]) for late in found["late"]] == [(False, 0.2)]
    assert datetime.fromisoformat(found["waits_for"]["until"]).timestamp() == pytest.approx(until, abs=1)


def test_lists_show_when_the_wait_ends(cano: Callable[..., Result], store: str) -> None:
    """`runs` and `top` show when the wait of the task ends, not when the run will be late."""
    flow = Workflow("ask", name="order", expect=Expect(within=600)).register("ask", ask).add_exit_state("done")

    async def leave() -> None:
        async with Kernel(store=store) as kernel:
            await kernel.start(flow, {}, run_id="o-1")

    asyncio.run(leave())

    for command in ("runs", "top"):
        printed = cano(command).stdout
        assert "waits for signal 'paid', until " in printed
        assert "(in 24 hours), then done, otherwise done" in printed
    (listed,) = json.loads(cano("top", "--json").stdout)["parked"]
    shown = json.loads(cano("show", "o-1", "--json").stdout)
    assert listed["waits_for"]["until"] == shown["waits_for"]["until"]
