"""Random keys, ids and signals from outside, most of them like the engine's own: none changes what a run does."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cano import (
    CanoError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    RunStatus,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    current_wait,
    wait_for,
)
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.acceptance.durability.shared import ONLY
from tests.acceptance.durability.test_forgeries import FORGED, NAMES

EXAMPLES = {"memory": 40, "sqlite": 8}
PHASES = Phase.explicit, Phase.reuse, Phase.generate
"""A failure can be a run that waits for ever. To shrink its example would take this long for each try."""
PATIENCE = 60.0
"""Seconds after which a run counts as one that waits for ever."""

MINIMAL = TaskConfig.minimal()
ask = Workflow("ASK", name="ask", default_config=MINIMAL).add_exit_state("DONE")
parent = Workflow("CALL", name="parent", default_config=MINIMAL).add_exit_state("DONE")
parent.register("CALL", SubWorkflow(ask, outputs={"answer": "answer"}, then="DONE"))


@ask.on("ASK")
async def asking(store: KeyValueStore) -> Any:
    """Wait for an answer, or a day."""
    store["token"] = current_wait().token
    return wait_for("answer", then="TAKE", timeout=86_400, on_timeout="DONE")


@ask.on("TAKE")
async def take(store: KeyValueStore) -> str:
    """Store the answer."""
    store["answer"] = current_step().payload
    return "DONE"


async def fraud(store: KeyValueStore) -> None:
    """Refuse each order."""
    raise ValueError("fraud")


async def stock(store: KeyValueStore) -> None:
    """Find that there is enough."""
    store["stock"] = 1


order: Workflow[str] = Workflow("CHECK", name="order", default_config=MINIMAL).add_exit_state("SHIPPED")
order.register_split("CHECK", [fraud, stock], JoinConfig(JoinStrategy.all(), "SHIPPED"))

RUNS = ("asking", "parent", "late")
TEXTS = st.one_of(
    st.sampled_from(NAMES),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(("", "\0", "\0wait 1 ", "wait ", "own ", "own\0", "data:", "\0parts")),
        st.sampled_from((*NAMES, "over 1", "begins 1", "begins fresh 1", "late x", "answer", "1", "with parent")),
        st.sampled_from(("", " 1", " 2", "\0", " asking:1", " parent:1/ask")),
    ),
    st.builds("child {}".format, st.sampled_from(("parent:1/ask", "late:1/ask", "asking:1"))),
    st.text(max_size=8),
).filter(lambda text: text != "answer")
IDS = st.one_of(
    st.sampled_from(
        ("late:1/ask", "parent:1/ask", "asking:1/ask", "cano.store", "schedule:order", "order@2026-11-30T")
    ),
    TEXTS,
)
VALUES = st.sampled_from((*FORGED.values(), True, 5, [1, 1], {"1": "ok"}, None, "DONE"))
ATTACKS = st.lists(
    st.one_of(
        st.tuples(st.just("signal"), st.sampled_from((*RUNS, "parent:1/ask", "late:1/ask")), TEXTS, TEXTS, VALUES),
        st.tuples(st.just("order"), IDS, st.dictionaries(TEXTS, VALUES, max_size=4)),
        st.tuples(st.just("ask"), IDS, st.dictionaries(TEXTS, VALUES, max_size=4)),
    ),
    min_size=1,
    max_size=6,
)


async def attack(kernel: Kernel, kind: str, target: str, *rest: Any) -> None:
    """Do what a caller can who chooses ids, keys, names and payloads. No order is shipped."""
    with suppress(CanoError):  # it may be refused
        if kind == "signal":
            name, id, payload = rest
            await kernel.signal(target, name, payload, id=id)
        elif kind == "ask":
            handle = await kernel.start(ask, rest[0], run_id=target, on_existing="reject")
            await handle._run.ended()
        else:
            with pytest.raises(JoinError):
                await kernel.run(order, rest[0], run_id=target, on_existing="reject")
            with pytest.raises(JoinError):
                await kernel.resume(order, target)


async def outcomes(url: str, attacks: list[Any]) -> None:
    """Begin runs, attack them, and let them end as they would have."""
    async with Kernel(store=url, **ONLY) as kernel:
        for flow, run_id in ((ask, "asking"), (parent, "parent")):
            handle = await kernel.start(flow, {}, run_id=run_id)
            await handle._run.ended()
        await kernel.active["parent:1/ask"].ended() if "parent:1/ask" in kernel.active else None
        before = {run.run_id: (run.workflow, run.state, run.wait) for run in await kernel.runs()}
        assert len(before) == 3
        for each in attacks:
            await attack(kernel, *each)
        after = await kernel.runs()
        assert {run.run_id: (run.workflow, run.state, run.wait) for run in after if run.run_id in before} == before
        assert all(run.status in (RunStatus.PARKED, RunStatus.FAILED) for run in after)
        for target in ("asking", "parent:1/ask"):
            await kernel.signal(target, "answer", target)
        results = [await kernel.run(flow, run_id=run_id) for flow, run_id in ((ask, "asking"), (parent, "parent"))]
        assert [result.data["answer"] for result in results] == ["asking", "parent:1/ask"]
        taken = "late:1/ask" in {run.run_id for run in after}
        with pytest.raises(TaskError) if taken else nullcontext():  # that run is not taken for its child
            handle = await kernel.start(parent, {}, run_id="late")
            await handle._run.ended()
            await kernel.signal("late:1/ask", "answer", "late")
            assert (await kernel.run(parent, run_id="late")).data == {"answer": "late"}


async def in_time(url: str, attacks: list[Any]) -> None:
    """Check `outcomes`, and that no run waits for ever."""
    try:
        async with asyncio.timeout(PATIENCE):
            await outcomes(url, attacks)
    except TimeoutError as error:
        raise AssertionError("a run waits for ever") from error


@pytest.mark.parametrize("kind", EXAMPLES)
def test_no_forgery_changes_an_outcome(kind: str) -> None:
    """Runs that wait go on waiting, a failed check stays failed, and each gets the answer that was sent to it."""

    @settings(
        max_examples=EXAMPLES[kind], suppress_health_check=[*HealthCheck], deadline=None, phases=PHASES,
        report_multiple_bugs=False,
    )  # fmt: skip
    @given(attacks=ATTACKS)
    @example(attacks=[("ask", "late:1/ask", {})])  # what the parent's own child would be, but without a parent
    def attacked(attacks: list[Any]) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "runs.db"
            url = "memory://?strict=1" if kind == "memory" else f"sqlite:///{path}?synchronous=normal"
            asyncio.run(in_time(url, attacks))

    attacked()
