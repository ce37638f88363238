"""Workers of several versions of one module, side by side on a store: each run is executed by those that can."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, Workflow

from tests.acceptance.durability.workers import Told, Workers

RUNS = 12

MODULE = """
from typing import Any

from cano import KeyValueStore, Workflow, wait_for

from tests.acceptance.durability.crowd import tell


async def ask(store: KeyValueStore) -> Any:
    tell("ask-{version}")
    return wait_for("go", then="{then}")


async def then(store: KeyValueStore) -> str:
    tell("then-{version}")
    return "end"


flow = Workflow("ask", name="post", version="{version}"{options})
flow.register("ask", ask).register("{then}", then).add_exit_state("end")
"""

VERSIONS = {
    "1": {"then": "pack", "options": ""},
    "2": {"then": "send", "options": ""},
    "3": {"then": "send", "options": ', migrate={"pack": "send"}, migrate_from=["1"]'},
}


async def versions(told: Told, what: str, run_ids: list[str]) -> list[str]:
    """Wait until each of these runs has begun that step, and return the versions that have executed it."""

    def found() -> list[str]:
        return [step.rpartition("-")[2] for _, step, run_id, _ in told.lines if run_id in run_ids and what in step]

    await told.until(lambda: len(found()) >= len(run_ids))
    return found()


class Project:
    """One module in several versions, each in a folder of its own, and worker processes."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self.workers = Workers(url, "post")
        for version, texts in VERSIONS.items():
            (folder / version).mkdir()
            (folder / version / "post.py").write_text(MODULE.format(version=version, **texts))

    def flow(self, version: str) -> Workflow[Any]:
        """Return the workflow of a version."""
        spec = importlib.util.spec_from_file_location(f"post{version}", self._folder / version / "post.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        flow: Workflow[Any] = module.flow
        return flow

    def worker(self, version: str) -> subprocess.Popen[str]:
        """Start a worker of a version."""
        return self.workers.start("flow", "--concurrency", "5", cwd=self._folder / version)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """The URL of a store that processes share."""
    return url_of(request.param)


@pytest.fixture
def project(tmp_path: Path, url: str) -> Iterator[Project]:
    """The versions, and workers, which are killed after the test."""
    project = Project(tmp_path, url)
    yield project
    project.workers.kill()


async def test_each_run_is_executed_by_the_version_that_can(url: str, project: Project, told: Told) -> None:
    """Two versions share the store without refusing a run of the other; a third one migrates what it may."""
    first = project.worker("1")
    second = project.worker("2")
    one, two = ([f"{version}-{number}" for number in range(1, RUNS + 1)] for version in "12")
    async with Kernel(store=url) as kernel:
        for version in "12":
            await kernel.submit_many(project.flow(version), [{}] * RUNS, run_id=version)
        assert await versions(told, "ask", one) == ["1"] * RUNS
        assert await versions(told, "ask", two) == ["2"] * RUNS
        for run_id in (*one[:4], *two[:4]):
            await kernel.signal(run_id, "go")
        assert await versions(told, "then", one[:4]) == ["1"] * 4
        assert await versions(told, "then", two[:4]) == ["2"] * 4

        for run_id in one:  # what is killed in the middle of a step would be begun again
            kind = "end" if run_id in one[:4] else "wait"
            await anext(event async for event in (await kernel.attach(run_id)).events() if event.kind == kind)

        # without workers of its version, a run waits: the others do not touch it
        first.kill()
        lines = first.communicate()[1].splitlines()
        await kernel.signal(one[4], "go")
        before = (await kernel.get(one[4])).status
        record = next(record for record in await kernel.runs() if record.run_id == one[4])
        await kernel.submit(project.flow("2"), run_id="marker")
        assert await versions(told, "ask", ["marker"]) == ["2"]  # so the second has seen all that is ready
        after = next(record for record in await kernel.runs() if record.run_id == one[4])
        assert (before.finished, after.token, after.holder) == (False, record.token, None)

        project.worker("3")
        for run_id in (*one[5:], *two[4:], "marker"):
            await kernel.signal(run_id, "go")
        assert await versions(told, "then", one[4:]) == ["3"] * (RUNS - 4)
        assert await versions(told, "then", two[4:]) == ["2"] * (RUNS - 4)
        for run_id in (*one, *two, "marker"):
            assert (await (await kernel.attach(run_id)).result()).state == "end"
        assert await kernel.check() == []
    second.kill()
    lines += (await asyncio.to_thread(second.communicate))[1].splitlines()
    assert len(told.lines) == 4 * RUNS + 2
    assert len([line for line in lines if "cannot continue" in line]) <= 4  # once for each definition and state
