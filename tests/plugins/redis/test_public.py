"""The public names, the plugin, the documentation, and what is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import cano_redis
import pytest
from cano import Capabilities, Kernel, NotifyingStore, StoreBackend
from cano_redis import RedisBackend, _plugin
from cano_redis.url import options_from_url

from tests.servers.redis import RedisServer

README = (Path(cano_redis.__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_names() -> None:
    """Exactly these names are public."""
    assert cano_redis.__all__ == ["Durability", "RedisBackend"]
    assert isinstance(RedisBackend(), StoreBackend)
    assert isinstance(RedisBackend(), NotifyingStore)


def test_plugin() -> None:
    """The distribution's entry point leads to the plugin, which names its schemes with their capabilities."""
    (entry,) = (point for point in entry_points(group="cano") if point.name == "redis")

    assert entry.load() is _plugin
    assert _plugin.CANO_API_VERSION == 2
    promised = Capabilities(
        durable=True,
        encoded=True,
        notify=True,
        pages=True,
        prune=True,
        audit=True,
        claims=True,
        history_pages=True,
        namespaces=True,
        appends=True,
        signal_limit=True,
        ready_filters=True,
        attributes=True,
        streams=True,
        slots=True,
        orders=True,
        outcomes=True,
    )
    assert _plugin.cano_stores() == {"redis": promised, "rediss": promised, "unix": promised}
    assert RedisBackend().capabilities == promised
    assert RedisBackend(strict=True).capabilities.strict


async def test_a_kernel_opens_it(redis: RedisServer) -> None:
    """A kernel opens the store by its URL, and closes it."""
    prefix = redis.new_prefix()
    shown = f"unix://{redis.socket}?db=0&prefix={prefix}"
    async with Kernel(store=redis.url(prefix=prefix)) as kernel:
        assert isinstance(kernel.backend, RedisBackend)
        assert repr(kernel.backend) == f"<RedisBackend {shown}, open>"
        backend = kernel.backend

    assert repr(backend) == f"<RedisBackend {shown}, closed>"
    assert repr(RedisBackend("::1", username="ada", password="x", tls=True, db=3)) == (
        "<RedisBackend rediss://ada@[::1]:6379/3?prefix=cano, not open>"
    )


def test_options_are_documented() -> None:
    """The README's table has each option with its default, and its text the others."""
    table = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", README, flags=re.MULTILINE))
    options = options_from_url("redis://?" + "&".join(f"{name}={value}" for name, value in table.items()))

    assert options is not None
    assert options == {"tls": False, **{name: getattr(RedisBackend()._settings, name) for name in table}}
    with pytest.raises(ValueError, match="known are ") as caught:
        options_from_url("redis://?y=z")
    known = str(caught.value).partition("known are ")[2].split(", ")
    assert sorted(known) == sorted([*table, *re.findall(r"`(ssl_\w+)`", README)])


def test_readme_runs(redis: RedisServer) -> None:
    """The README's example runs any number of times, and prints what it says."""
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (expected,) = re.findall(r"asyncio.run\(main\(\)\)  # (.*)", program)
    program = program.replace("redis://localhost:6379/0?", redis.new_url() + "&")
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
        )

        assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


def test_imports_are_lazy() -> None:
    """Neither redis nor msgspec is imported before a store is opened."""
    program = (
        "import sys; from cano_redis import RedisBackend, _plugin; _plugin.cano_open_store('redis://x');"
        "print([name for name in ('redis', 'hiredis', 'msgspec') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
