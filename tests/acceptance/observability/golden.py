"""A program whose workflow has a branch, retry, timeout, split, sub-workflow, and a crash.

`python golden.py async|sync FOLDER`: the first time it crashes in the last state; the second time it resumes and ends.
Spans are written to FOLDER/spans.jsonl as they end, log lines to stderr.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import wraps
from pathlib import Path
from typing import Any

from cano import JoinConfig, JoinStrategy, Kernel, KeyValueStore, SubWorkflow, TaskConfig, Workflow, current_step
from cano_otel import Otel
from cano_structlog import EVENTS, LogSettings, RunLog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class State(Enum):
    CHOOSE = auto()
    FETCH = auto()
    SLOW = auto()
    SPLIT = auto()
    SUB = auto()
    CRASH = auto()
    DONE = auto()
    NEVER = auto()


class Inner(Enum):
    ONLY = auto()
    END = auto()


class AtOnce:
    """A retry strategy: one retry, without delay."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        return 0.0 if attempt == 1 else None


class File(SpanExporter):
    """Writes spans to a file, each at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter.export`."""
        with self._path.open("a", encoding="utf-8") as file:
            for span in spans:
                file.write(json.dumps(json.loads(span.to_json())) + "\n")
        return SpanExportResult.SUCCESS


def golden(kind: str, crash: bool) -> Workflow[State]:
    """The workflow, with tasks that are coroutines or plain functions."""

    def made(function: Callable[[KeyValueStore], Any]) -> Any:
        @wraps(function)
        async def coroutine(store: KeyValueStore) -> Any:
            return function(store)

        return function if kind == "sync" else coroutine

    released = threading.Event()

    def choose(store: KeyValueStore) -> State:
        return State.FETCH if store["all"] else State.NEVER

    def fetch(store: KeyValueStore) -> State:
        if current_step().attempt == 1:
            raise ConnectionError("try again")
        return State.SLOW

    def slow_in_a_thread(store: KeyValueStore) -> State:
        if current_step().attempt == 1:
            released.wait()
        released.set()
        return State.SPLIT

    async def slow(store: KeyValueStore) -> State:
        if current_step().attempt == 1:
            await asyncio.Event().wait()
        return State.SPLIT

    def one(store: KeyValueStore) -> int:
        return 1

    def two(store: KeyValueStore) -> int:
        return 2

    def inner(store: KeyValueStore) -> Inner:
        return Inner.END

    def last(store: KeyValueStore) -> State:
        if crash:
            os._exit(9)
        return State.DONE

    child = Workflow(Inner.ONLY, name="child", default_config=TaskConfig.minimal()).add_exit_state(Inner.END)
    child.register(Inner.ONLY, made(inner))
    flow = Workflow(State.CHOOSE, name="golden", default_config=TaskConfig.minimal())
    flow.add_exit_states([State.DONE, State.NEVER])
    flow.register(State.CHOOSE, made(choose))
    flow.register(State.FETCH, made(fetch), config=TaskConfig(retry=AtOnce()))
    flow.register(
        State.SLOW,
        slow_in_a_thread if kind == "sync" else slow,
        config=TaskConfig(retry=AtOnce(), timeout=1.0),  # in which a thread begins on a busy machine, too
    )
    # one at a time, so that their order is the same in threads
    join = JoinConfig(JoinStrategy.all(), State.SUB, limit=1)
    flow.register_split(State.SPLIT, [made(one), made(two)], join)
    flow.register(State.SUB, SubWorkflow(child, then=State.CRASH))
    return flow.register(State.CRASH, made(last))


async def main(kind: str, folder: Path) -> None:
    """Start or resume the run."""
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(File(folder / "spans.jsonl")))
    levels = dict.fromkeys(EVENTS, "info")
    plugins = ["memory", "msgspec", "sqlite", RunLog(LogSettings(levels=levels, render="json"))]
    store = f"sqlite:///{folder}/runs.db"
    again = (folder / "runs.db").exists()
    flow = golden(kind, crash=not again)
    async with Kernel(store=store, discover=False, plugins=[*plugins, Otel(tracer_provider=tracers)]) as kernel:
        await kernel.run(flow, {"all": True}, run_id="golden")  # the second process finds the first one's dead


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
