"""What the kernel finds: a store for `memory://`, and clear words about any other URL of that scheme."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from cano import Capabilities, ConfigurationError, Kernel, RunFilter, RunRecord, RunStatus
from cano_memory import MemoryBackend, _plugin

DURABLE = Capabilities(durable=True, encoded=True, strict=True)
FORGETFUL = Capabilities(durable=False, encoded=False)


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
        ("memory://host", "'//host'"),
        ("memory:///path", "'///path'"),
        ("memory:", "''"),
        ("memory:path", "'path'"),
        ("memory://?strict", "strict=''"),
        ("memory://?strict=yes", "strict='yes'"),
        ("memory://?strict=2", "strict='2'"),
        ("memory://?keep=", "keep=''"),
        ("memory://?keep=-1", "keep='-1'"),
        ("memory://?keep=1.5", "keep='1.5'"),
        ("memory://?keep=٣", "keep='٣'"),
        ("memory://?keep=" + "9" * 5000, "keep='999"),
        ("memory://?keep=5#part", "keep='5#part'"),
        ("memory://?strict=1&keep=5", "keep='5'"),
        ("memory://?size=5", "the unknown option 'size'"),
        ("memory://?Strict=1", "the unknown option 'Strict'"),
        ("memory://?strict=1&strict=0", "the option 'strict' twice"),
    ],
)
def test_what_is_wrong_is_named(url: str, wrong: str) -> None:
    """A wrong place or option is refused, by its name and with what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        _plugin.cano_open_store(url)

    assert wrong in str(caught.value)
    assert "memory://" in str(caught.value)


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
