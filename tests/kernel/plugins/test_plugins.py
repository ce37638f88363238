"""Plugins: found, ordered, blocked before import, named when broken, and never half-loaded."""

from __future__ import annotations

import concurrent.futures
import importlib
import importlib.metadata
import logging
import os
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    PluginError,
    PluginInfo,
    PluginWarning,
    Run,
    RunResult,
    Step,
    Workflow,
    hookimpl,
    hookspec,
)


class State(Enum):
    """The states of the workflow that is run."""

    WORK = 1
    DONE = 2


async def work(store: Any) -> State:
    """The one task."""
    return State.DONE


async def run(kernel: Kernel) -> RunResult:
    """One run of one step."""
    return await kernel.run(Workflow(State.WORK).register(State.WORK, work).add_exit_state(State.DONE))


class Site:
    """A folder of installed distributions, real to importlib.metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.module("site_log", "calls = []")

    def module(self, name: str, source: str) -> None:
        """A module without a distribution."""
        (self.path / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")

    def install(
        self, plugin: str, source: str, *, distribution: str = "", version: str = "1.0", value: str = ""
    ) -> None:
        """A distribution with one module and one entry point. Of the module's import and hooks a log is kept."""
        distribution = distribution or f"dist-{plugin}"
        module = f"site_{distribution.replace('-', '_')}"
        head = "from cano import *\nfrom site_log import calls\ncalls.append(__name__)\n"
        self.module(module, head + textwrap.dedent(source))
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[cano]\n{plugin} = {value or module}\n", encoding="utf-8")
        importlib.invalidate_caches()

    @property
    def log(self) -> list[str]:
        """What was imported and called so far."""
        calls: list[str] = importlib.import_module("site_log").calls
        return calls


OBSERVER = """
    @hookimpl
    def cano_run_started(run):
        calls.append(__name__ + " called")
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A place to install plugins; those that are installed for real are blocked."""
    monkeypatch.setenv("CANO_BLOCK", ",".join(point.name for point in importlib.metadata.entry_points(group="cano")))
    monkeypatch.syspath_prepend(tmp_path)
    yield Site(tmp_path)
    for name in [name for name in sys.modules if name.startswith("site_")]:
        del sys.modules[name]


def others(kernel: Kernel) -> list[PluginInfo]:
    """The kernel's plugins, without those that every kernel has."""
    return [info for info in kernel.load() if info.name not in ("concurrency", "durability")]


def found(kernel: Kernel) -> list[PluginInfo]:
    """The plugins that were found, apart from those that are really installed."""
    return [info for info in others(kernel) if info.status != "blocked"]


# finding


async def test_a_plugin_is_found_by_its_entry_point(site: Site) -> None:
    """An installed plugin is found, described, and takes part in runs."""
    site.install("guest", OBSERVER, distribution="cano-guest", version="2.3")
    async with Kernel() as kernel:
        await run(kernel)

        assert found(kernel) == [PluginInfo("guest", "cano-guest", "2.3", "active", ("cano_run_started",))]
    assert found(kernel)[0].origin == "cano-guest 2.3"
    assert site.log == ["site_cano_guest", "site_cano_guest called"]


def test_threads_load_once(site: Site) -> None:
    """Threads that need the plugins at the same time wait for the one that loads them."""
    entered, go, loads = threading.Event(), threading.Event(), []

    class Slow:
        @hookimpl
        def cano_add_hookspecs(self, pm: Any) -> None:
            loads.append(threading.current_thread())
            entered.set()
            assert go.wait(60)

    kernel = Kernel(plugins=[Slow()])
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        first = pool.submit(kernel.load)
        assert entered.wait(60)
        calls: list[Callable[[], Any]] = [kernel.load, kernel.stores, lambda: kernel.inactive("retry")]
        others = [pool.submit(call) for call in (*calls, lambda: kernel.store_at("memory://"))]
        go.set()
        results = [future.result(60) for future in (first, *others)]

    assert len(loads) == 1
    assert str(results[3]).startswith("blocked by CANO_BLOCK")


def test_nothing_is_imported_before_it_is_needed(site: Site) -> None:
    """Making a kernel imports no plugin; loading does, once."""
    site.install("guest", "")
    kernel = Kernel()
    assert site.log == []

    kernel.load()
    kernel.load()
    assert site.log == ["site_dist_guest"]


def test_without_discovery_nothing_is_imported(site: Site) -> None:
    """`discover=False` leaves installed plugins alone."""
    site.install("guest", "")

    assert others(Kernel(discover=False)) == []
    assert site.log == []


async def test_a_plugin_can_be_asked_for_by_name(site: Site) -> None:
    """Without discovery exactly the plugins that are named are loaded, each once."""
    site.install("guest", OBSERVER)
    site.install("other", OBSERVER)
    async with Kernel(plugins=["guest"], discover=False) as kernel:
        await run(kernel)

    assert [info.name for info in others(kernel)] == ["guest"]
    assert site.log == ["site_dist_guest", "site_dist_guest called"]
    assert [info.name for info in found(Kernel(plugins=["guest"]))] == ["guest", "other"]


@pytest.mark.parametrize("discover", [True, False])
def test_a_name_that_is_not_installed_is_refused(site: Site, discover: bool) -> None:
    """The error says which name, and which there are."""
    site.install("guest", "")
    kernel = Kernel(plugins=["guest", "gust"], discover=discover)
    with pytest.raises(
        ConfigurationError, match=r"no plugin named 'gust' \(did you mean 'guest'\?\) is installed; there are: .*guest"
    ):
        kernel.load()


async def test_the_order_is_the_alphabet(site: Site) -> None:
    """Plugins are imported in the order of their names, whatever their distributions' are; the last is asked first.

    A hook may ask to be first or last, and objects given to the kernel come before installed plugins.
    """
    site.install("b", OBSERVER, distribution="x")
    site.install("a", OBSERVER, distribution="y")
    site.install("d", OBSERVER.replace("@hookimpl", "@hookimpl(trylast=True)"), distribution="z")
    site.install("c", OBSERVER.replace("@hookimpl", "@hookimpl(tryfirst=True)"), distribution="w")

    class Given:
        @hookimpl
        def cano_run_started(self, run: Any) -> None:
            site.log.append("given called")

    async with Kernel(plugins=[Given()]) as kernel:
        assert [info.name for info in found(kernel)] == ["a", "b", "c", "d", "Given"]
        assert site.log == ["site_y", "site_x", "site_w", "site_z"]
        site.log.clear()
        await run(kernel)
        assert site.log == ["site_w called", "given called", "site_x called", "site_y called", "site_z called"]
        called = [*site.log]

        site.log.clear()
        kernel.hook.cano_run_started(run=None)
        assert site.log == called, "the engine calls listeners in pluggy's order"


# blocking


@pytest.mark.parametrize("block", [["guest"], ("guest", "retry"), {"guest"}, (name for name in ["guest"])])
async def test_a_blocked_plugin_is_never_imported(site: Site, block: Any) -> None:
    """Blocking by parameter keeps the module from being imported; the plugin is listed as blocked."""
    site.install("guest", OBSERVER)
    site.install("other", OBSERVER)
    async with Kernel(block=block) as kernel:
        await run(kernel)

    assert site.log == ["site_dist_other", "site_dist_other called"]
    assert PluginInfo("guest", "dist-guest", "1.0", "blocked") in kernel.load()


def test_cano_block_adds_names(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable blocks too, with spaces and empty names in it or not, besides the parameter."""
    for name in "abc":
        site.install(name, "")
    monkeypatch.setenv("CANO_BLOCK", f" a ,,{os.environ['CANO_BLOCK']},")
    kernel = Kernel(block=["c"])

    assert [info.name for info in found(kernel)] == ["b"]
    assert site.log == ["site_dist_b"]


@pytest.mark.parametrize("given", [["b"], []])
def test_cano_plugins_names_the_only_ones(site: Site, monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    """No other installed plugin is imported, not even one that the program names; durability stays."""
    for name in "abc":
        site.install(name, "")
    monkeypatch.setenv("CANO_BLOCK", "c")
    monkeypatch.setenv("CANO_PLUGINS", " a ,,c")
    kernel = Kernel(plugins=given)
    infos = {info.name: info.status for info in kernel.load()}

    assert site.log == ["site_dist_a"]
    assert {name for name, status in infos.items() if status == "active"} == {"a", "concurrency", "durability"}
    assert infos["b"] == infos["c"] == infos["sqlite"] == "blocked"


def test_an_allowed_plugin_must_be_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name is an error that names the nearest; a kernel that discovers nothing does not need them."""
    site.install("guest", "")
    monkeypatch.setenv("CANO_PLUGINS", "gest")
    with pytest.raises(ConfigurationError, match=r"no plugin named 'gest' \(did you mean 'guest'\?\) is installed"):
        Kernel().load()

    Kernel(discover=False).load()
    assert site.log == []


def test_an_empty_list_allows_all(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the variable were not set."""
    site.install("guest", "")
    monkeypatch.setenv("CANO_PLUGINS", "")

    assert [info.name for info in found(Kernel())] == ["guest"]


def test_a_given_plugin_can_be_blocked() -> None:
    """A plugin given as an object is blocked by its name like any other."""

    class Given:
        pass

    assert [info.status for info in others(Kernel(plugins=[Given()], discover=False, block=["Given"]))] == ["blocked"]


def test_a_misspelt_name_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked name that no plugin has is probably misspelt: a warning names the nearest one, once for each name."""
    site.install("guest", "")
    monkeypatch.setenv("CANO_BLOCK", f"{os.environ['CANO_BLOCK']},gest")
    with pytest.warns(PluginWarning) as caught:
        Kernel(block=["conurrency", "xyz"]).load()

    assert [str(warning.message) for warning in caught] == [
        "the name 'conurrency' (did you mean 'concurrency'?) is blocked by block=, but no plugin has it",
        "the name 'gest' (did you mean 'guest'?) is blocked by CANO_BLOCK, but no plugin has it",
        "the name 'xyz' is blocked by block=, but no plugin has it",
    ]


async def test_a_warning_points_at_the_program(site: Site) -> None:
    """A warning about a plugin has the place of the user's call that loaded it, however deep in Cano it is found."""
    site.install("broken", "import no_such_module")
    with pytest.warns(PluginWarning) as loaded:
        Kernel(block=["xyz"]).load()
    with pytest.warns(PluginWarning) as opened:
        await Kernel(block=["xyz"]).open()

    assert [warning.filename for warning in (*loaded, *opened)] == [__file__] * 4


@pytest.mark.parametrize("discover", [True, False])
def test_names_that_are_right_are_not_told(monkeypatch: pytest.MonkeyPatch, discover: bool) -> None:
    """Neither that of an installed plugin, loaded or not, nor that of one that is released but not installed here."""
    monkeypatch.setattr("cano.plugins.loading._installed", lambda: {"sqlite"})

    Kernel(block=["sqlite", "redis", "durability", "concurrency"], discover=discover).load()


def test_no_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the metadata of its distribution, such as in an archive, the kernel knows the installed plugins."""

    def missing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    with pytest.warns(PluginWarning, match=r"'redi' \(did you mean 'redis'\?\)"):
        Kernel(block=["redi"], discover=False).load()


@pytest.mark.parametrize("block", ["guest", 3, True, [3], [None], object()])
def test_block_is_a_list_of_names(block: Any) -> None:
    """A single string, or what is no list of strings, is refused at once."""
    with pytest.raises(ConfigurationError, match="block must be a list of plugin names"):
        Kernel(block=block)


@pytest.mark.parametrize("plugins", ["guest", 3, True, object()])
def test_plugins_is_a_list(plugins: Any) -> None:
    """A single name or object is refused at once."""
    with pytest.raises(ConfigurationError, match="plugins must be a list"):
        Kernel(plugins=plugins)


# two of one name


@pytest.mark.parametrize("strict", [True, False])
def test_two_plugins_of_one_name_are_refused(site: Site, strict: bool) -> None:
    """Both distributions are named, and nothing is imported."""
    site.install("guest", "", distribution="first", version="1.1")
    site.install("guest", "", distribution="second", version="2.2")
    kernel = Kernel(strict=strict)
    with pytest.raises(PluginError, match="two plugins are named 'guest'") as caught:
        kernel.load()

    assert caught.value.plugin == "guest"
    for text in (str(caught.value), caught.value.distribution or ""):
        assert "first 1.1" in text
        assert "second 2.2" in text
    assert site.log == []


def test_two_plugins_of_one_name_can_be_blocked(site: Site) -> None:
    """Where the name is blocked neither is loaded, and there is nothing to complain about."""
    site.install("guest", "", distribution="first")
    site.install("guest", "", distribution="second")
    site.install("other", "")

    assert [info.name for info in found(Kernel(block=["guest"]))] == ["other"]


def test_one_plugin_found_twice_is_one(site: Site) -> None:
    """Two distributions that name the same module, such as an old one and its new name, bring one plugin."""
    site.install("guest", "", distribution="first")
    site.install("guest", "", distribution="second", value="site_first")

    assert [info.name for info in found(Kernel())] == ["guest"]


def test_two_given_plugins_of_one_class_are_two() -> None:
    """Two objects of one class are told apart; the same object twice is refused."""

    class Given:
        @hookimpl
        def cano_run_started(self, run: Run) -> None: ...

    one = Given()

    assert [info.name for info in others(Kernel(plugins=[one, Given()], discover=False))] == ["Given", "Given'"]
    with pytest.raises(PluginError, match="already registered"):
        Kernel(plugins=[one, one], discover=False).load()


def test_a_given_plugin_without_hooks_is_refused() -> None:
    """What implements no hook at all was meant to be something else."""
    with pytest.raises(PluginError, match="implements no hook"):
        Kernel(plugins=[5], discover=False).load()


# broken ones

BROKEN = {
    "an import that raises": ("import no_such_module", "No module named 'no_such_module'"),
    "a module that exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "a syntax error": ("def", "SyntaxError"),
    "a version from the future": ("CANO_API_VERSION = 3", "written for version 3 of Cano's plugin API, this is 2"),
    "a version that is none": ("CANO_API_VERSION = '1'", "written for version 1"),
    "a store of version 1": (
        "CANO_API_VERSION = 1\n@hookimpl\ndef cano_open_store(url): calls.append('wrong')",
        "written for version 1 of Cano's plugin API, this is 2",
    ),
    "a wrapper of pluggy's old kind": (
        "@hookimpl(hookwrapper=True)\ndef cano_step_started(step): yield",
        "it wraps cano_step_started in the old way; write wrapper=True for hookwrapper=True",
    ),
    "a misspelt hook": (
        "@hookimpl\ndef cano_run_startet(run): calls.append('wrong')",
        "implements hooks that do not exist: cano_run_startet; check their spelling",
    ),
    "a wrong argument": (
        "@hookimpl\ndef cano_step_started(stop): calls.append('wrong')",
        r"cano_step_started.*\n.*stop",
    ),
    "an async lifecycle hook": (
        "@hookimpl\nasync def cano_step_started(step): calls.append('wrong')",
        "implements cano_step_started as async; only cano_kernel_started and cano_kernel_stopping may be",
    ),
    "an async hook under another name": (
        "@hookimpl(specname='cano_step_started')\nasync def listen(step): calls.append('wrong')",
        "implements cano_step_started as async",
    ),
    "an async composition hook": (
        "@hookimpl\nasync def cano_open_store(url): calls.append('wrong')",
        "implements cano_open_store as async",
    ),
    "hookspecs that cannot be added": (
        "@hookimpl\ndef cano_add_hookspecs(pm): raise LookupError('no specs')",
        "LookupError: no specs",
    ),
}
broken = pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)


@broken
async def test_a_broken_plugin_is_skipped_with_a_warning(site: Site, source: str, reason: str) -> None:
    """It is named with its distribution, version, fault and remedy; nothing of it is used, and the others are."""
    site.install("guest", textwrap.dedent(OBSERVER) + source, distribution="cano-guest", version="0.9")
    site.install("a", OBSERVER)
    site.install("z", OBSERVER)
    kernel = Kernel()
    with pytest.warns(PluginWarning, match=reason) as caught:
        kernel.load()
    async with kernel:
        await run(kernel)

    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith("the plugin 'guest' (cano-guest 0.9) cannot be used: ")
    assert message.endswith("Repair or uninstall it, or block it: Kernel(block=['guest']) or CANO_BLOCK=guest")
    (info,) = (info for info in others(kernel) if info.name == "guest")
    assert (info.status, info.hooks, info.distribution, info.version) == ("failed", (), "cano-guest", "0.9")
    assert info.error
    assert info.error in message
    assert [call for call in site.log if call.endswith("called")] == ["site_dist_z called", "site_dist_a called"]
    assert "wrong" not in site.log
    assert kernel.hook.cano_open_store(url="guest://") is None


@broken
async def test_a_broken_plugin_is_refused_when_strict(site: Site, source: str, reason: str) -> None:
    """`strict=True` makes it an error, with plugin and distribution as attributes, each time it is tried."""
    site.install("guest", textwrap.dedent(OBSERVER) + source, distribution="cano-guest", version="0.9")
    site.install("other", "")
    kernel = Kernel(strict=True)
    for _ in range(2):
        with pytest.raises(PluginError, match=reason) as caught:
            await kernel.open()

        assert (caught.value.plugin, caught.value.distribution) == ("guest", "cano-guest 0.9")
        assert caught.value.__cause__ is not None
    await kernel.close()


@broken
def test_a_broken_plugin_can_be_blocked(site: Site, source: str, reason: str) -> None:
    """The remedy of the message works."""
    site.install("guest", source)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(Kernel(block=["guest"], strict=True)) == []


def test_an_entry_point_to_nothing_is_named(site: Site) -> None:
    """An entry point whose object does not exist is a broken plugin."""
    site.install("guest", "", value="site_dist_guest:Plugin")
    with pytest.warns(PluginWarning, match="'guest' .dist-guest 1.0. cannot be used: AttributeError"):
        Kernel().load()


def test_ctrl_c_during_an_import_is_no_broken_plugin(site: Site) -> None:
    """Ctrl-C while plugins are imported ends the program, as ever."""
    site.install("guest", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Kernel().load()


def test_a_given_plugin_that_is_broken_is_always_refused() -> None:
    """What the program gives itself is not skipped: the program is wrong."""

    class Given:
        @hookimpl
        def cano_step_startet(self, step: Step) -> None: ...

    with pytest.raises(PluginError, match=r"'Given' \(given to the kernel\) .*cano_step_startet") as caught:
        Kernel(plugins=[Given()], discover=False).load()
    assert caught.value.plugin == "Given"


def test_a_hook_may_be_optional(site: Site) -> None:
    """A hook of a plugin that is not installed can be implemented, if it says that it is optional."""
    site.install("guest", "@hookimpl(optionalhook=True)\ndef cano_of_another(thing): pass")

    assert [(info.name, info.status) for info in found(Kernel(strict=True))] == [("guest", "active")]


async def test_an_observer_of_version_1_still_works(site: Site) -> None:
    """Only stores have changed since version 1: a plugin that states it, and opens no store, is loaded."""
    site.install("guest", "    CANO_API_VERSION = 1\n" + OBSERVER)
    async with Kernel() as kernel:
        await run(kernel)

    assert [(info.name, info.status) for info in found(kernel)] == [("guest", "active")]
    assert site.log == ["site_dist_guest", "site_dist_guest called"]


def test_the_current_version_is_fine(site: Site) -> None:
    """A plugin may say for which version of the contract it was written."""
    site.install("guest", "CANO_API_VERSION = API_VERSION")

    assert [info.status for info in found(Kernel(strict=True))] == ["active"]


async def test_what_was_not_loaded_is_told_where_it_is_missed(site: Site) -> None:
    """The error about a store that nobody opens names the plugins that failed or are blocked."""
    site.install("guest", "import no_such_module")
    site.install("other", "")
    with pytest.warns(PluginWarning), pytest.raises(ConfigurationError) as caught:
        await Kernel(store="guest://", block=["other"]).open()

    assert "no active plugin provides the store 'guest://'; not active: " in str(caught.value)
    assert "guest (broken: ModuleNotFoundError: No module named 'no_such_module')" in str(caught.value)
    assert "other (blocked by block=; remove it there)" in str(caught.value)


# kinds of plugin


async def test_a_class_is_made_into_an_object(site: Site) -> None:
    """An entry point may name a class without arguments: an object of it is the plugin."""
    source = """
        class Plugin:
            def __init__(self):
                self.name = "object"
            @hookimpl
            def cano_run_started(self, run):
                calls.append(self.name)
    """
    site.install("guest", source, value="site_dist_guest:Plugin")
    async with Kernel() as kernel:
        await run(kernel)

    assert site.log == ["site_dist_guest", "object"]
    assert found(kernel)[0].hooks == ("cano_run_started",)


async def test_a_given_class_is_made_into_an_object() -> None:
    """So is a class that is given to the kernel."""
    seen = []

    class Given:
        @hookimpl
        def cano_run_started(self, run: Any) -> None:
            seen.append(type(self))

    async with Kernel(plugins=[Given], discover=False) as kernel:
        await run(kernel)

    assert seen == [Given]
    assert [info.name for info in others(kernel)] == ["Given"]


def test_a_class_that_cannot_be_made_is_broken(site: Site) -> None:
    """A class that wants arguments is a broken plugin."""
    site.install("guest", "class Plugin:\n    def __init__(self, url): pass", value="site_dist_guest:Plugin")
    with pytest.warns(PluginWarning, match="TypeError: .*url"):
        Kernel().load()


# hooks of a plugin's own


class Brewing:
    """Hookspecs of a plugin's own."""

    @hookspec
    def cano_brew(self, cups: int) -> int:
        """Make coffee."""
        raise NotImplementedError


class Coffee:
    """The plugin they belong to."""

    @hookimpl
    def cano_add_hookspecs(self, pm: Any) -> None:
        """Add them."""
        pm.add_hookspecs(Brewing)


def test_a_plugin_can_have_hooks_of_its_own() -> None:
    """Other plugins implement them as they do the kernel's, and the plugin calls them through the kernel."""

    class Barista:
        @hookimpl
        def cano_brew(self, cups: int) -> int:
            return cups * 2

    for plugins in ([Barista(), Coffee()], [Coffee(), Barista()]):
        kernel = Kernel(plugins=plugins, discover=False)
        assert {info.name: info.hooks for info in others(kernel)} == {
            "Barista": ("cano_brew",),
            "Coffee": ("cano_add_hookspecs",),
        }
        assert kernel.hook.cano_brew(cups=2) == [4]


def test_a_wrong_implementation_of_such_a_hook_is_named(site: Site) -> None:
    """A plugin that implements another's hook with a wrong argument is the one that is named first."""
    site.install("barista", "@hookimpl\ndef cano_brew(mugs): pass")
    site.install(
        "coffee",
        """
        class Specs:
            @hookspec
            def cano_brew(self, cups): "Make coffee."
        @hookimpl
        def cano_add_hookspecs(pm):
            pm.add_hookspecs(Specs)
        """,
    )
    kernel = Kernel()
    with pytest.warns(PluginWarning) as caught:
        kernel.load()

    assert "the plugin 'barista' (dist-barista 1.0) cannot be used" in str(caught[0].message)
    assert "mugs" in str(caught[0].message)
    assert {info.name: info.status for info in found(kernel)} == {"barista": "failed", "coffee": "failed"}


# observers that raise


class Raising:
    """Raises at two moments."""

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Raise, naming the step."""
        raise ValueError(f"at step {step.seq}")

    @hookimpl
    def cano_step_finished(self) -> None:
        """Raise without having asked for the step."""
        raise KeyError("finished")


class Counting:
    """Notes what it sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Note it."""
        self.seen.append("started")

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Note it."""
        self.seen.append("finished")


async def test_an_observer_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The run ends well, other observers hear everything; each fault is reported once and counted."""
    first, last = Counting(), Counting()
    async with Kernel(plugins=[first, Raising(), last], discover=False) as kernel:
        with caplog.at_level(logging.ERROR, logger="cano"):
            for _ in range(3):
                assert (await run(kernel)).state is State.DONE

        names = {name.rpartition(".")[2]: count for name, count in kernel.observer_errors.items()}
        assert names == {"cano_step_started": 3, "cano_step_finished": 3}
        assert all("Raising" in name for name in kernel.observer_errors)
    assert first.seen == last.seen == ["started", "finished"] * 3
    assert len(caplog.records) == 2
    assert "Raising.cano_step_started raised; the run continues" in caplog.text
    assert "ValueError: at step 1" in caplog.text


async def test_a_wrapper_is_around_all_implementations(caplog: pytest.LogCaptureFixture) -> None:
    """A hook wrapper sees the call begin and end; what is raised inside it breaks no run either."""
    seen: list[str] = []

    class Wrapping:
        @hookimpl(wrapper=True)
        def cano_step_started(self, step: Step) -> Any:
            seen.append(f"before {step.state.name}")
            result = yield
            seen.append("after")
            return result

    class Inside:
        @hookimpl
        def cano_step_started(self, step: Step) -> None:
            seen.append("inside")

    async with Kernel(plugins=[Inside(), Wrapping()], discover=False) as kernel:
        await run(kernel)
    assert seen == ["before WORK", "inside", "after"]

    async with Kernel(plugins=[Raising(), Wrapping()], discover=False) as kernel:
        with caplog.at_level(logging.ERROR, logger="cano"):
            assert (await run(kernel)).state is State.DONE
        assert [name for name in kernel.observer_errors if "cano_step_started" in name]


# deciders


async def test_a_decider_that_raises_stops_the_kernel() -> None:
    """What a composition hook raises is not swallowed."""

    class Wrong:
        @hookimpl
        def cano_open_store(self, url: str) -> Any:
            raise ConfigurationError(f"{url!r} has an unknown option")

    kernel = Kernel(store="guest://?x", plugins=[Wrong()], discover=False)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="unknown option"):
            await kernel.open()
    await kernel.close()


def test_the_name_of_a_built_in_plugin_is_taken(site: Site) -> None:
    """An installed plugin of that name is refused, and the built-in one stays."""
    site.install("concurrency", OBSERVER)

    with pytest.raises(PluginError, match="the plugin 'concurrency' of dist-concurrency"):
        Kernel().load()
