"""What the acceptance tests share: the kernel's wheel, and a venv that has it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.venvs import ROOT, Venv, build_wheel


@pytest.fixture(scope="session")
def kernel_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel's wheel."""
    return build_wheel(ROOT / "kernel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def kernel_venv(kernel_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A venv with the kernel's wheel alone."""
    return Venv(tmp_path_factory.mktemp("alone") / "venv", kernel_wheel)
