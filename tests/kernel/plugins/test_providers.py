"""Plugins that provide something: their answers are checked, and a missing answer is explained."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cano import Capabilities, ConfigurationError, Kernel, PluginError, TaskConfig, Workflow, hookimpl
from cano.plugins.advice import PLUGINS
from cano.plugins.providers import ANSWERS
from cano_memory import MemoryBackend

from tests.kernel.test_hookspecs import SPECS


def answering(hook: str, answer: Any) -> Any:
    """A plugin that gives an answer to a hook."""

    def implementation() -> Any:
        return answer

    return SimpleNamespace(__name__="guest", **{hook: hookimpl(implementation)})


async def end(store: Any) -> str:
    """End."""
    return "end"


def flow(retry: str | None = None) -> Workflow[str]:
    """One task."""
    config = None if retry is None else TaskConfig(retry)
    return Workflow("a", name="flow").register("a", end, config=config).add_exit_state("end")


# wrong answers


def test_every_provider_hook_is_checked() -> None:
    """A new hook whose first answer is used needs an entry in the table."""
    first = {name for name, spec in SPECS.items() if vars(spec)["cano_spec"]["firstresult"]}

    assert first == ANSWERS.keys()


class Half:
    """A layer that cannot read what it wrote."""

    def wrap(self, data: bytes) -> bytes:
        """As it is."""
        return data


WRONG = [
    ("cano_codec", 3, "3; it must be a Codec, but it has no register, encode, decode"),
    ("cano_codec_layer", Half(), r"<.*Half.*>; it must be a CodecLayer, but it has no unwrap"),
    ("cano_open_store", "x", "'x'; it must be a StoreBackend, but it has no open, .*capabilities"),
    ("cano_open_store", MemoryBackend, "<class '.*'>; it must be a StoreBackend, not a class"),
    ("cano_open_executor", 3, "3; it must be an Executor, but it has no submit"),
    ("cano_keep_runs", [], r"\[\]; it must be a RunKeeper, but it has no keeps, view, begin, settled, .*, close"),
    ("cano_bind_state", 3, r"3; it must be an async function \(run, state\) that returns the next state"),
    ("cano_bind_state", Half, "<class '.*Half'>; it must be an async function .*, not a class"),
    ("cano_default_config", {"retry": 3}, "{'retry': 3}; it must be a TaskConfig"),
    ("cano_default_config", False, "False; it must be a TaskConfig"),
    ("cano_retry_strategy", 3, "3; it must be a RetryStrategy, but it has no delay"),
]


@pytest.mark.parametrize(("hook", "answer", "problem"), WRONG)
async def test_a_wrong_answer_is_an_error(hook: str, answer: Any, problem: str) -> None:
    """It names the plugin, the hook, the answer and what is expected. The plugins that do not answer are not named."""
    kernel = Kernel(
        store={"cano_codec_layer": "memory://?codec=x", "cano_open_store": "guest://"}.get(hook, "memory://"),
        executor="guest://" if hook == "cano_open_executor" else None,
        plugins=["memory", answering(hook, None), answering(hook, answer)],
        discover=False,
    )
    whole = rf"^the plugin \"guest'\" answered {hook} with {problem}$"
    with pytest.raises(PluginError, match=whole) as caught:
        await kernel.run(flow("often" if hook == "cano_retry_strategy" else None))
    await kernel.close()

    assert caught.value.plugin == "guest'"


async def test_a_wrapper_that_answers_wrongly() -> None:
    """If a plugin's answer is right, and a wrapper makes it wrong, the error names the wrapper."""

    class Wrapper:
        @hookimpl(wrapper=True)
        def cano_default_config(self) -> Any:
            yield
            return 3

    right = answering("cano_default_config", TaskConfig.minimal())
    async with Kernel(plugins=[Wrapper(), right], discover=False) as kernel:
        with pytest.raises(PluginError, match=r"the plugin 'Wrapper' answered cano_default_config with 3; it must"):
            await kernel.run(flow())


@pytest.mark.parametrize("answer", [None, [("guest", Capabilities())], {"guest": True}, dict], ids=repr)
async def test_wrong_stores(answer: Any) -> None:
    """The list of stores, too, and where it is only part of another message."""
    guest = answering("cano_stores", answer)
    with pytest.raises(PluginError, match=r"^the plugin 'guest' answered cano_stores with .*to Capabilities"):
        Kernel(plugins=[guest], discover=False).stores()
    with pytest.raises(PluginError, match=r"^the plugin 'guest' answered cano_stores with"):
        await Kernel(store="other://", plugins=[guest], discover=False).open()


class Whole(MemoryBackend):
    """A store and an executor, all of whose members the class has, too."""

    capabilities = Capabilities()

    async def submit(self, call: Any) -> Any:
        """Call it here."""
        return await call()


@pytest.mark.parametrize(("option", "value"), [("store", Whole), ("executor", Whole)])
def test_a_class_is_not_an_object(option: str, value: Any) -> None:
    """A store or executor that is given as a class was not made."""
    with pytest.raises(ConfigurationError, match=f"^{option} must be a URL.*, not <class"):
        Kernel(**{option: value})


# no answer

CASES = [
    *((f"{scheme}://host", None, scheme, plugin) for scheme, plugin in PLUGINS["store"].items() if scheme != "memory"),
    *((f"sqlite:///x.db?codec={name}:1", None, name, plugin) for name, plugin in PLUGINS["codec layer"].items()),
    *(("memory://", name, name, plugin) for name, plugin in PLUGINS["retry strategy"].items()),
]


@pytest.mark.parametrize(("store", "retry", "name", "plugin"), CASES)
async def test_why_a_plugin_does_not_answer(
    store: str, retry: str | None, name: str, plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that the plugin is blocked, not loaded or not installed; only then does it say to install it."""

    async def problem(**options: Any) -> str:
        kernel = Kernel(store=store, **options)
        with pytest.raises(
            ConfigurationError, match=f"^the plugin {plugin!r}, which provides the .* '{name}.*', is "
        ) as e:
            await kernel.run(flow(retry))
        await kernel.close()
        return str(e.value).partition("', is ")[2]

    assert await problem(block=[plugin]) == "blocked by block=; remove it there"
    assert await problem(block={plugin: "not wanted"}) == "not wanted"
    for variable, value, reason in [
        ("CANO_BLOCK", plugin, "blocked by CANO_BLOCK; remove it there"),
        ("CANO_PLUGINS", "msgspec", "not in CANO_PLUGINS; add it there"),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert await problem() == reason
    added = f"add it: plugins=[{plugin!r}]"
    assert await problem(discover=False) == f"installed, but not loaded, because of discover=False; {added}"
    monkeypatch.setattr("cano.plugins.loading._installed", lambda: {"concurrency"})
    assert await problem(discover=False) == f"not installed; it is in the distribution cano-{plugin}"


def test_a_plugin_that_is_not_loaded_yet() -> None:
    """Asking for the reason loads the plugins: before that, none is active."""
    assert Kernel().inactive("sqlite") is None
    assert Kernel(block=["sqlite"]).inactive("sqlite") == "blocked by block=; remove it there"
    assert Kernel(discover=False).inactive("nosuch") == "not installed; it is in the distribution cano-nosuch"


async def test_only_plugins_that_could_answer_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error about an unknown name lists what there is, and no inactive plugin that provides other things."""
    monkeypatch.setenv("CANO_PLUGINS", "memory,retry")
    async with Kernel() as kernel:
        with pytest.raises(ConfigurationError, match=r"'nosuch'; there are: exponential, fixed, none\n"):
            await kernel.run(flow("nosuch"))
    with pytest.raises(ConfigurationError) as caught:
        await Kernel(store="mysql://h").open()
    assert [name.split()[-1] for name in str(caught.value).partition("; not active: ")[2].split(" (")[:-1]] == [
        "postgres", "redis", "sqlite",
    ]  # fmt: skip


async def test_why_there_is_no_codec() -> None:
    """A store of bytes without a codec names the plugin that has one, and why it is not active."""
    with pytest.raises(
        ConfigurationError, match="keeps bytes, and no plugin has a codec: the plugin 'msgspec' is bloc"
    ):
        await Kernel(store="sqlite:///x.db", block=["msgspec"]).open()


async def test_a_store_that_would_not_be_used_is_not_made(tmp_path: Path) -> None:
    """Without a plugin that keeps runs, a store is refused before it is opened, which would make its file."""
    with pytest.raises(ConfigurationError, match="'durability', which keeps runs in the store 'sqlite:"):
        await Kernel(store=f"sqlite:///{tmp_path}/x.db", block=["durability"]).open()

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("cano-x.db", "sqlite:///cano-x.db"),
        ("./data/x.db", "sqlite:///./data/x.db"),
        ("/var/x.db", "sqlite:////var/x.db"),
        ("sqlite.db", "sqlite:///sqlite.db"),
        ("C:\\x.db", "sqlite:///C:\\x.db"),
        ("file:///var/x.db", "sqlite:////var/x.db"),
        ("file:x.db", "sqlite:///x.db"),
        ("", "sqlite:///runs.db"),
        ("sqlite", "sqlite:///runs.db"),
        ("sqlite3:x.db", "sqlite:///x.db"),
        ("sqlite3:/var/x.db", "sqlite:////var/x.db"),
        ("sqllite://x.db", "sqlite:///x.db"),
        (" sqlite:///x.db", "sqlite:///x.db"),
        ("memory", "memory://"),
        ("Redis", "redis://"),
        ("postgres:h/db", "postgres://h/db"),
        ("postgresql+psycopg://ada:hunter2@h/db", "postgresql://h/db"),
        ("postgresql:/ada:hunter2@h/db?x=1", "postgresql://h/db"),
        ("mysql://h/db", None),
        ("runs", None),
        ("sqlite:///x.db?codec=zsdt:9", "zstd:9"),
        ("sqlite:///x.db?codec=gpg", None),
    ],
)
async def test_the_nearest_right_url_is_named(given: str, meant: str | None) -> None:
    """The error names the URL or the layer that was probably meant, and otherwise what there is."""
    with pytest.raises(ConfigurationError) as caught:
        await Kernel(store=given, plugins=["memory", "sqlite", "postgres", "redis", "msgspec"], discover=False).open()

    hint = "" if meant is None else f" (did you mean {meant!r}?)"
    there = (
        "encrypt, limit, offload, zstd"
        if "codec" in given
        else "memory, postgres, postgresql, redis, rediss, sqlite, unix"
    )
    assert str(caught.value).endswith(f"'{hint}; there are: {there}")
    assert "hunter2" not in str(caught.value)


async def test_a_url_that_its_own_plugin_does_not_answer() -> None:
    """A URL is not recommended in its own place."""
    guest = answering("cano_stores", {"guest": Capabilities()})
    with pytest.raises(ConfigurationError, match=r"^no active plugin .* 'guest://x'; there are: guest$"):
        await Kernel(store="guest://x", plugins=[guest], discover=False).open()


def test_a_path_is_not_a_url() -> None:
    """The error for a path object names the URL of the file."""
    with pytest.raises(ConfigurationError, match=r"not .*Path.*; write 'sqlite:////var/x.db'$"):
        Kernel(store=Path("/var/x.db"))  # type: ignore[arg-type]


# runs that no plugin keeps


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"block": ["durability"]}, "the plugin 'durability', which keeps runs in the store 'memory://', is blocked"),
        ({"block": ["memory"]}, "the plugin 'memory', which opens the store 'memory://', is blocked"),
        (
            {"discover": False},
            "the plugin 'memory', which opens the store 'memory://', is installed, but not loaded",
        ),
    ],
)
async def test_a_run_id_without_effect_is_told(
    options: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If no plugin keeps runs, a run_id does not find its run again: the first call that names one says so and why."""
    async with Kernel(**options) as kernel:
        await kernel.run(flow())
        await (await kernel.start(flow(), run_id="volatile", keep=False)).result()
        assert caplog.messages == []
        await kernel.run(flow(), run_id="one\nERROR")
        await (await kernel.start(flow(), run_id="two")).result()

    (message,) = caplog.messages
    assert message.startswith(r"run 'one\nERROR' is not kept: the next call with its run_id executes it again; ")
    assert reason in message
    assert caplog.records[0].levelno == logging.WARNING


async def test_a_kept_run_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """With a plugin that keeps runs, in whatever store, there is nothing to say."""
    async with Kernel(plugins=["memory"], discover=False) as kernel:
        await kernel.run(flow(), run_id="one")

    assert caplog.messages == []
