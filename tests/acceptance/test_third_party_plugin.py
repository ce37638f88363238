"""A plugin that somebody else wrote, in a distribution of its own that this repository knows nothing of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.venvs import Venv, build_wheel

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-patience"
version = "7.1"
requires-python = ">=3.11"
dependencies = ["cano"]

[project.entry-points.cano]
acme = "acme_patience:Plugin"

[tool.hatch.build.targets.wheel]
packages = ["acme_patience"]
"""

MODULE = """
from __future__ import annotations

from cano import RetryStrategy, Run, Step, hookimpl

SEEN: list[str] = []


class Patience:
    def __init__(self, retries: int) -> None:
        self.retries = retries

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        return 0.0 if attempt <= self.retries else None


class Plugin:
    CANO_API_VERSION = 2

    @hookimpl
    def cano_retry_strategy(self, spec: str) -> RetryStrategy | None:
        name, _, number = spec.partition(":")
        return Patience(int(number)) if name == "patience" else None

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        SEEN.append(f"{step.state} attempt {step.attempt}: {step.error}")

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        SEEN.append(run.status.value)
"""

PROGRAM = """
import asyncio, json, sys
from cano import ConfigurationError, Kernel, TaskConfig, Workflow, current_step

async def work(store):
    if current_step().attempt <= 2:
        raise OSError("down")
    store["attempts"] = current_step().attempt
    return "done"

def flow():
    return Workflow("work", default_config=TaskConfig(retry="patience:2")).register("work", work).add_exit_state("done")

async def main():
    kernel = Kernel()
    early = "acme_patience" in sys.modules
    async with kernel:
        result = await kernel.run(flow())
        plugins = [[info.name, info.origin, info.status, info.hooks] for info in kernel.load()][1:]
    async with Kernel(block=["acme"]) as kernel:
        try:
            await kernel.run(flow())
        except ConfigurationError as error:
            refused = str(error)
    return [early, result.data, sys.modules["acme_patience"].SEEN, plugins, refused]

print(json.dumps(asyncio.run(main())))
"""


@pytest.fixture(scope="module")
def venv(kernel_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A venv with the kernel's wheel and the plugin's."""
    project = tmp_path_factory.mktemp("acme")
    package = project / "acme_patience"
    package.mkdir()
    (project / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (package / "__init__.py").write_text(MODULE, encoding="utf-8")
    return Venv(project / "venv", kernel_wheel, build_wheel(project, project / "dist"))


def test_it_is_found_by_its_entry_point_alone(venv: Venv) -> None:
    """A program that does not name it has its retry strategy by name, and its observer; blocking takes both away."""
    early, data, seen, plugins, refused = venv.json(PROGRAM)

    assert early is False
    assert data == {"attempts": 3}
    assert seen == ["work attempt 1: down", "work attempt 2: down", "succeeded"]
    hooks = ["cano_retry_strategy", "cano_run_finished", "cano_step_retrying"]
    assert plugins == [["acme", "acme-patience 7.1", "active", hooks]]
    assert "'patience:2'" in refused


def test_importing_cano_does_not_import_it(venv: Venv) -> None:
    """Neither importing cano nor making a kernel imports an installed plugin; and blocked, it is never imported."""
    program = (
        "import asyncio, json, sys, cano\n"
        "kernel = cano.Kernel(block=['acme'])\n"
        "kernel.load()\n"
        "blocked = 'acme_patience' in sys.modules\n"
        "kernel = cano.Kernel()\n"
        "made = 'acme_patience' in sys.modules\n"
        "asyncio.run(kernel.open())\n"
        "print(json.dumps([blocked, made, 'acme_patience' in sys.modules]))\n"
    )
    assert venv.json(program) == [False, False, True]
