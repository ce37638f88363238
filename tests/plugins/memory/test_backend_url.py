"""What the kernel finds: a store for `memory://`, and clear words about any other URL of that scheme."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from cano import Capabilities, ConfigurationError, Kernel, RunFilter, RunRecord, RunStatus
from cano_memory import MemoryBackend, _plugin

from tests.plugins.memory.test_backend import DURABLE, FORGETFUL


def test_entry_point() -> None:
    """The distribution's entry point leads to the plugin, which says which contract it was written for."""
    (entry,) = (point for point in entry_points(group="cano") if point.name == "memory")

    assert entry.load() is _plugin
    assert _plugin.CANO_API_VERSION == 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://", FORGETFUL),
        ("memory://?", FORGETFUL),
        ("MEMORY://", FORGETFUL),
        ("memory://?strict=0", FORGETFUL),
        ("memory://?strict=0&keep=5", FORGETFUL),
        ("memory://?strict=1", DURABLE),
    ],
)
def test_options(url: str, expected: Capabilities) -> None:
    """Each option does what it says, and the defaults are those of the class."""
    store = _plugin.cano_open_store(url)

    assert isinstance(store, MemoryBackend)
    assert store.capabilities == expected


@pytest.mark.parametrize(("url", "expected"), [("memory://?keep=2", 2), ("memory://?keep=0", 0), ("memory://", 1000)])
async def test_keep(url: str, expected: int) -> None:
    """The URL says how many finished runs are kept."""
    store = _plugin.cano_open_store(url)
    assert store is not None
    for number in range(1002):
        await store.create(
            RunRecord(
                run_id=f"{number}", workflow="flow", version="1", fingerprint="f", state="S",
                status=RunStatus.SUCCEEDED,
            )
        )  # fmt: skip

    assert len(await store.runs(RunFilter())) == expected


@pytest.mark.parametrize("url", ["", "memory", "mem://", "sqlite:///memory://", "://memory", "weird://[", "memoryx://"])
def test_other_urls_are_others(url: str) -> None:
    """A URL of another scheme is left to other plugins, however odd it is."""
    assert _plugin.cano_open_store(url) is None


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("memory://host", "write memory://"),
        ("memory:///path", "write memory://"),
        ("memory:", "write memory://"),
        ("memory:path", "write memory://"),
        ("memory://?strict", "strict must be 0 or 1, not ''"),
        ("memory://?strict=yes", "strict must be 0 or 1, not 'yes'"),
        ("memory://?strict=2", "strict must be 0 or 1, not '2'"),
        ("memory://?keep=", "keep must be a whole number from 0 to 999999999, not ''"),
        ("memory://?keep=-1", "keep must be a whole number from 0 to 999999999, not '-1'"),
        ("memory://?keep=1.5", "keep must be a whole number"),
        ("memory://?keep=٣", "keep must be a whole number"),
        ("memory://?keep=" + "9" * 5000, "keep must be a whole number"),
        ("memory://?keep=5#part", "keep must be a whole number from 0 to 999999999, not '5#part'"),
        ("memory://?strict=1&keep=5", "give strict=1 or keep=N, not both"),
        ("memory://?size=5", "the unknown option 'size'; known are strict, keep"),
        ("memory://?Strict=1", "the unknown option 'Strict' (did you mean 'strict'?)"),
        ("memory://?strict=1&strict=0", "the option 'strict' twice"),
    ],
)
def test_what_is_wrong_is_named(url: str, wrong: str) -> None:
    """A wrong place or option is refused, by its name and with what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        _plugin.cano_open_store(url)

    assert wrong in str(caught.value)


async def test_every_kernel_has_its_own() -> None:
    """Two kernels on `memory://` share nothing: each opens an empty store."""
    async with (
        Kernel(discover=False, plugins=["memory"]) as one,
        Kernel(discover=False, plugins=["memory"]) as two,
    ):
        assert isinstance(one.backend, MemoryBackend)
        assert isinstance(two.backend, MemoryBackend)
        assert one.backend is not two.backend
        await one.backend.create(RunRecord(run_id="a", workflow="flow", version="1", fingerprint="f", state="S"))
        assert await two.backend.load("a") is None


async def test_a_wrong_option_stops_the_kernel() -> None:
    """A kernel does not start on a store URL that is wrong."""
    kernel = Kernel(store="memory://?size=5", discover=False, plugins=["memory"])
    with pytest.raises(ConfigurationError, match="unknown option 'size'"):
        await kernel.open()
    await kernel.close()
