"""The plugin's hooks and public names."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import cano_msgspec
import pytest
from cano import Codec, Kernel
from cano_msgspec import MsgspecCodec, _plugin

README = Path(cano_msgspec.__file__).parents[1] / "README.md"


def test_hook_gives_a_new_codec() -> None:
    """Each kernel has a codec of its own."""
    first, second = _plugin.cano_codec(), _plugin.cano_codec()

    assert isinstance(first, Codec)
    assert first is not second


async def test_kernel_takes_it() -> None:
    """A kernel with the plugin uses its codec."""
    async with Kernel(discover=False, plugins=[_plugin]) as kernel:
        assert isinstance(kernel.codec, MsgspecCodec)


def test_entry_point() -> None:
    """The distribution's entry point leads to the plugin."""
    (entry,) = (point for point in entry_points(group="cano") if point.name == "msgspec")

    assert entry.load() is _plugin
    assert _plugin.CANO_API_VERSION == 2


def test_names() -> None:
    """Exactly these names are public, and documented."""
    assert cano_msgspec.__all__ == ["MsgspecCodec"]
    assert MsgspecCodec.__doc__
    assert all(getattr(MsgspecCodec, name).__doc__ for name in ("register", "encode", "decode"))


def test_imports_are_light() -> None:
    """A kernel that loads the plugin imports no other package for it, not even msgspec."""
    program = (
        "import sys; from cano import Kernel; before = set(sys.modules); import cano_msgspec._plugin;"
        "new = {n.partition('.')[0] for n in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "print(sorted(new))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "['cano_msgspec']\n"


@pytest.mark.parametrize(
    "block", re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
)
def test_readme_runs(block: str) -> None:
    """The README's example runs and prints what its comments show."""
    expected = "".join(f"{line}\n" for line in re.findall(r"print\(.*?\)  # (.*)", block))
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)

    assert (done.stderr, done.stdout) == ("", expected)
