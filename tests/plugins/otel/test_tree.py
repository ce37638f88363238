"""The span tree, in a program and behind `cano run --trace`."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import JoinConfig, JoinStrategy, Kernel, TaskConfig, TaskError, Workflow
from cano.testing import VirtualClock
from cano_otel import SpanTree
from rich.console import Console

from tests.plugins.otel.conftest import Seen

MakeKernel = Callable[..., Kernel]

FLOW = """
from cano import Workflow, current_step

flow = Workflow("fetch", name="pages").add_exit_state("done")


@flow.on("fetch")
async def fetch(store):
    if "broken" in store:
        raise ValueError("bad [page]")
    return "done"
"""


class Once:
    """A retry strategy: one retry, after two seconds."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        return 2.0 if attempt == 1 else None


def printed(tree: SpanTree) -> list[str]:
    stream = io.StringIO()
    tree.print(Console(file=stream, width=100))
    return stream.getvalue().splitlines()


def flow_with_retry() -> Workflow[str]:
    flow = Workflow("a", name="flow").add_exit_state("done")
    tries: list[int] = []

    async def a(store: Any) -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("[bold]no")
        return 1

    async def b(store: Any) -> str:
        raise LookupError

    flow.register_split("a", [a], JoinConfig(JoinStrategy.all(), "b"), config=TaskConfig(retry=Once()))
    return flow.register("b", b)


async def test_the_tree(make_kernel: MakeKernel) -> None:
    """Each span is a line below its parent, with its duration and its error."""
    tree = SpanTree()
    async with Kernel(discover=False, plugins=["memory", tree], clock=VirtualClock()) as kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow_with_retry())

    assert printed(tree) == [
        "RUN flow 2.00 s failure: LookupError",
        "├── step a 2.00 s",
        "│   └── attempt 1 2.00 s",
        "│       └── branch 0:a 2.00 s",
        "│           ├── attempt 1 0 µs failure: ValueError",
        "│           └── attempt 2 0 µs",
        "└── step b 0 µs failure: LookupError",
        "    └── attempt 1 0 µs failure: LookupError",
    ]


async def test_beside_the_tracing_plugin(make_kernel: MakeKernel, seen: Seen) -> None:
    """If the kernel already traces its runs, the tree shows the same spans, and none is made twice."""
    tree = SpanTree()
    async with make_kernel(tree) as kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow_with_retry())

    assert {span.context.span_id for span in tree.spans} == {span.context.span_id for span in seen.spans}
    assert len(tree.spans) == len(seen.spans) == 8


async def test_very_many_spans(make_kernel: MakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans beyond the limit are only counted."""
    monkeypatch.setattr("cano_otel.tree.MAX_SPANS", 2)
    tree = SpanTree()
    async with make_kernel(tree) as kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow_with_retry())

    assert printed(tree)[-1] == "and 6 more spans"
    assert printed(SpanTree()) == ["no spans: no run was started, or OTEL_TRACES_SAMPLER dropped it"]


@pytest.mark.parametrize("data", [(), ("--data", "broken=1")])
def test_cano_run_trace(tmp_path: Path, data: tuple[str, ...]) -> None:
    """`cano run --trace` prints the tree on stderr when the run has ended, well or badly; stdout stays the answer."""
    (tmp_path / "flows.py").write_text(FLOW, encoding="utf-8")
    command = [sys.executable, "-c", "from cano_cli.main import main; main()"]
    done = subprocess.run(
        [*command, "--block", "structlog", "run", "flows.py:flow", "--json", "--trace", *data],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )

    text = re.sub(r"\d[\d.]* (µs|ms|s)", "T", done.stderr)
    error = " failure: ValueError" if data else ""
    state = [f"RUN pages T{error}", f"└── step fetch T{error}"]
    assert done.returncode == (1 if data else 0)
    assert json.loads(done.stdout)["status"] == ("failed" if data else "succeeded")
    assert text[text.index("RUN") :].splitlines()[:2] == state


def test_trace_is_in_the_help(tmp_path: Path) -> None:
    """Every app of a process has the option exactly once."""
    from cano_cli.main import make_app
    from click.testing import CliRunner

    for _ in range(2):
        result = CliRunner().invoke(make_app(), ["run", "--help"])
        assert result.output.count("--trace ") == 1
