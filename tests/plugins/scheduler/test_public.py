"""What the distribution promises to those who import it."""

from __future__ import annotations

import subprocess
import sys

import cano_scheduler
from cano import Kernel


def test_the_public_names() -> None:
    """These and no others, sorted."""
    assert cano_scheduler.__all__ == ["FlowInfo", "Scheduler", "Tick", "nominal_time"]


def test_the_plugin_is_found_under_its_name() -> None:
    """By its entry point; it adds its hooks and its command."""
    info = next(info for info in Kernel(discover=False, plugins=["scheduler"]).load() if info.name == "scheduler")
    assert (info.status, info.hooks) == ("active", ("cano_add_hookspecs", "cano_commands"))


def test_a_kernel_imports_little_of_it() -> None:
    """Neither croniter nor click are imported by a kernel that loads the plugin."""
    code = (
        "import sys; from cano import Kernel; Kernel(discover=False, plugins=['scheduler']).load(); "
        "print('croniter' in sys.modules, 'click' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
