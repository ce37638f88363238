"""The fixtures that pytest finds where Cano is installed, tried in a pytest of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import cano
import cano.testing
import pytest

pytestmark = pytest.mark.slow

NAME = "cano.testing.pytest_plugin"
PYPROJECT = Path(cano.__file__).parents[1] / "pyproject.toml"


def run_pytest(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What pytest says of a test file, with the plugin loaded as an entry point, and warnings as errors."""
    (folder / "test_it.py").write_text(textwrap.dedent(source))
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    others = [option for name in ("anyio", "hypothesispytest", "timeout", "xdist") for option in ("-p", f"no:{name}")]
    installed = [] if entry_points(group="pytest11", name="cano") else ["-p", NAME]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *others, *installed, *options],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done


def test_the_entry_point() -> None:
    """The kernel's distribution names the plugin to pytest."""
    points = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["pytest11"]
    assert points == {"cano": NAME}


FLOW = """
    from cano import Workflow, current_step, wait_for

    async def ask(store):
        return wait_for("paid", then="ship", timeout=1000, on_timeout="given up")

    async def ship(store):
        store["by"] = current_step().payload
        return "end"

    flow = Workflow("ask", name="order").register("ask", ask).register("ship", ship)
    flow.add_exit_states(["end", "given up"])
"""


def test_the_fixtures(tmp_path: Path) -> None:
    """A kernel in memory in virtual time, faults in its store and tasks, and the URL of a durable store."""
    done = run_pytest(
        tmp_path,
        FLOW
        + """
    import pytest
    from cano import Kernel, StoreUnavailableError

    async def test_time(cano_kernel, cano_clock):
        before = cano_clock.time()
        assert (await cano_kernel.run(flow)).state == "given up"
        assert cano_clock.time() - before == 1000

    async def test_signal(cano_kernel):
        handle = await cano_kernel.start(flow, run_id="7")
        await cano_kernel.signal("7", "paid", {"by": "Ada"})
        assert (await handle.result()).data == {"by": {"by": "Ada"}}

    async def test_faults(cano_kernel, cano_faults):
        cano_faults.at_call("create").fail(StoreUnavailableError("away"))
        cano_faults.at_task("ask").delay(5)
        with pytest.raises(StoreUnavailableError):
            await cano_kernel.run(flow, run_id="7")
        assert (await cano_kernel.run(cano_faults.into(flow), run_id="7")).state == "given up"

    def test_sync(cano_kernel):
        import asyncio
        assert asyncio.run(cano_kernel.run(flow)).state == "given up"

    async def test_durable(cano_store_url, cano_clock):
        for _ in range(2):
            async with Kernel(store=cano_store_url) as kernel:
                handle = await kernel.start(flow, run_id="7")
                await kernel.signal("7", "paid", 1, id="1")
                assert (await handle.result()).data == {"by": 1}

    def test_nothing(cano_kernel, cano_clock, cano_faults, cano_store_url):
        assert cano_store_url.startswith("sqlite:///")
""",
    )
    assert (done.returncode, done.stdout.splitlines()[-1].split(" in ")[0]) == (0, "6 passed"), done.stdout


def test_a_run_that_is_left_active(tmp_path: Path) -> None:
    """A run that a test leaves behind ends with the test, without a warning, and the kernel is closed."""
    done = run_pytest(
        tmp_path,
        """
    import asyncio
    import pytest
    from cano import Workflow

    seen = []

    async def hang(store):
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    flow = Workflow("hang", name="hang").register("hang", hang).add_exit_state("end")

    @pytest.fixture
    def closed(cano_kernel):
        yield
        assert cano_kernel.active == {}

    async def test_it(closed, cano_kernel):
        seen.append(cano_kernel)
        await cano_kernel.start(flow, run_id="lost")
        await asyncio.sleep(0)

    def test_after():
        assert seen[0].closed
        assert seen[1] == "ended"
""",
    )
    assert (done.returncode, done.stdout.splitlines()[-1].split(" in ")[0]) == (0, "2 passed"), done.stdout


def test_survives_crashes_in_a_test(tmp_path: Path) -> None:
    """`survives_crashes` finds a workflow of the very test file, whose module nobody can import by its name."""
    done = run_pytest(
        tmp_path,
        FLOW
        + """
    from cano.testing import survives_crashes

    def test_it():
        assert survives_crashes(flow, signals=[("paid", "Ada")]).outcome.data == {"by": "Ada"}
""",
        "--import-mode=importlib",
    )
    assert (done.returncode, done.stdout.splitlines()[-1].split(" in ")[0]) == (0, "1 passed"), done.stdout


def test_help(tmp_path: Path) -> None:
    """`pytest --fixtures` explains each fixture."""
    done = run_pytest(tmp_path, "", "--fixtures")
    for name in ("cano_clock", "cano_faults", "cano_kernel", "cano_store_url"):
        (line,) = [number for number, line in enumerate(done.stdout.splitlines()) if line.startswith(name)]
        assert done.stdout.splitlines()[line + 1].startswith("    "), name


def test_it_costs_next_to_nothing() -> None:
    """At pytest's start the plugin imports the kernel, and nothing of the testing kit, of a store or of a codec."""
    program = (
        "import json, sys, pytest, asyncio; before = set(sys.modules)\n"
        f"import {NAME}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    new = json.loads(done.stdout)
    assert [name for name in new if name.startswith("cano.testing")] == ["cano.testing", NAME]
    assert {name.partition(".")[0] for name in new} - set(sys.stdlib_module_names) <= {"cano", "pluggy"}
    assert not {"sqlite3", "subprocess", "tempfile"} & set(new)


def test_names_that_there_are_not() -> None:
    """The package imports its names when they are used; one that there is not raises as usual."""
    assert [getattr(cano.testing, name).__name__ for name in cano.testing.__all__] == cano.testing.__all__
    with pytest.raises(AttributeError, match=r"module 'cano\.testing' has no attribute 'Falts'"):
        _ = cano.testing.Falts  # type: ignore[attr-defined]  # as it should be
