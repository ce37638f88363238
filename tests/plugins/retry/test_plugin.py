"""The plugin: its entry point and hooks."""

from __future__ import annotations

from importlib.metadata import entry_points

import pluggy
import pytest
from cano import HOOK_NAMESPACE, RetryStrategy, TaskConfig, hookimpl, hookspec
from cano_retry import Exponential, Fixed, NoRetry, _plugin


class Specs:
    """The kernel's hookspecs that the plugin implements."""

    @hookspec(firstresult=True)
    def cano_default_config(self) -> TaskConfig | None:
        """The default config."""

    @hookspec(firstresult=True)
    def cano_retry_strategy(self, spec: str) -> RetryStrategy | None:
        """A strategy by name."""


@pytest.fixture
def manager() -> pluggy.PluginManager:
    """A plugin manager with the plugin in it."""
    manager = pluggy.PluginManager(HOOK_NAMESPACE)
    manager.add_hookspecs(Specs)
    manager.register(_plugin, "retry")
    manager.check_pending()
    return manager


@pytest.mark.parametrize(
    ("spec", "expected"), [("none", NoRetry()), ("fixed", Fixed(3, 1.0)), ("exponential", Exponential())]
)
def test_strategies_by_name(manager: pluggy.PluginManager, spec: str, expected: RetryStrategy) -> None:
    """Each name has its strategy, with sensible defaults."""
    assert manager.hook.cano_retry_strategy(spec=spec) == expected


@pytest.mark.parametrize("spec", ["", "Fixed", "fibonacci", "exponential "])
def test_other_names_are_others(manager: pluggy.PluginManager, spec: str) -> None:
    """The plugin ignores other names."""
    assert manager.hook.cano_retry_strategy(spec=spec) is None


def test_default_config(manager: pluggy.PluginManager) -> None:
    """The default config has 3 retries with increasing delays, and no timeout."""
    assert manager.hook.cano_default_config() == TaskConfig(retry=Exponential(max_retries=3))


def test_other_plugins_come_first(manager: pluggy.PluginManager) -> None:
    """Another plugin's default config wins, also when it was registered earlier."""

    class Other:
        @hookimpl
        def cano_default_config(self) -> TaskConfig:
            return TaskConfig.minimal()

    manager.unregister(name="retry")
    manager.register(Other())
    manager.register(_plugin, "retry")

    assert manager.hook.cano_default_config() == TaskConfig.minimal()


def test_entry_point() -> None:
    """The distribution's entry point leads to the plugin."""
    (entry,) = (point for point in entry_points(group="cano") if point.name == "retry")

    assert entry.load() is _plugin


def test_api_version() -> None:
    """The plugin declares its API version."""
    assert _plugin.CANO_API_VERSION == 2
