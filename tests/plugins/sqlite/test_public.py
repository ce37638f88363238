"""The public names, the plugin, the documentation, and what is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import cano_sqlite
import pytest
from cano import Kernel, StoreBackend
from cano_sqlite import SqliteBackend, _plugin
from cano_sqlite.url import options_from_url

README = (Path(cano_sqlite.__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_names() -> None:
    """Exactly this name is public."""
    assert cano_sqlite.__all__ == ["SqliteBackend"]
    assert isinstance(SqliteBackend("x"), StoreBackend)


def test_plugin() -> None:
    """The distribution's entry point leads to the plugin, which names its API version."""
    (entry,) = (point for point in entry_points(group="cano") if point.name == "sqlite")

    assert entry.load() is _plugin
    assert _plugin.CANO_API_VERSION == 2


async def test_a_kernel_opens_it(path: Path) -> None:
    """A kernel opens the store by its URL, and closes it."""
    async with Kernel(store=f"sqlite:///{path}") as kernel:
        assert isinstance(kernel.backend, SqliteBackend)
        assert repr(kernel.backend) == f"<SqliteBackend {path}, open>"
        backend = kernel.backend

    assert repr(backend) == f"<SqliteBackend {path}, closed>"
    assert repr(SqliteBackend(path)) == f"<SqliteBackend {path}, not open>"


def test_options_are_documented() -> None:
    """The README's table has each option with its default."""
    table = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", README, flags=re.MULTILINE))
    options = options_from_url("sqlite:///x?" + "&".join(f"{name}={value}" for name, value in table.items()))

    assert options is not None
    assert options == {"path": "x", **{name: getattr(SqliteBackend("x")._settings, name) for name in table}}
    with pytest.raises(ValueError, match=f"known are {', '.join(table)}$"):
        options_from_url("sqlite:///x?y=z")


def test_readme_runs(tmp_path: Path) -> None:
    """The README's example runs any number of times, and prints what it says."""
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (expected,) = re.findall(r"asyncio.run\(main\(\)\)  # (.*)", program)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
        )

        assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


def test_imports_are_lazy() -> None:
    """Neither sqlite3 nor msgspec is imported before a store is opened."""
    program = (
        "import sys; from cano_sqlite import SqliteBackend, _plugin; _plugin.cano_open_store('sqlite:///x');"
        "print([name for name in ('sqlite3', 'msgspec') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
