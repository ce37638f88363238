"""Asks the plugins that provide something, and checks their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pluggy

from cano.errors import PluginError
from cano.executors import Executor
from cano.model.config import TaskConfig
from cano.model.expect import WATCHED
from cano.protocols import Capabilities, Codec, CodecLayer, RetryStrategy, StoreBackend
from cano.safe_text import safe_repr


class Answer(NamedTuple):
    """The right answers to a hook, other than None.

    Attributes:
        text: what they are, for messages.
        members: the members that they must have.
        kind: their class.
    """

    text: str
    members: tuple[str, ...] = ()
    kind: Any = object

    def lacks(self, answer: object) -> list[str]:
        """Return the members that an answer does not have."""
        return [name for name in self.members if not hasattr(answer, name)]

    def allows(self, answer: object) -> bool:
        """Return whether an answer is right. A class is not: it has the members, but was not called."""
        return isinstance(answer, self.kind) and not isinstance(answer, type) and not self.lacks(answer)


def _like(text: str, protocol: Any) -> Answer:
    members = {**vars(protocol), **protocol.__annotations__}
    return Answer(text, tuple(name for name in members if not name.startswith("_")))


ANSWERS = {
    "cano_codec": _like("a Codec", Codec),
    "cano_codec_layer": _like("a CodecLayer", CodecLayer),
    "cano_open_store": _like("a StoreBackend", StoreBackend),
    "cano_seal_store": _like("a StoreBackend", StoreBackend),
    "cano_open_executor": _like("an Executor", Executor),
    # what every run needs; without the other methods of a RunKeeper, runs can neither wait nor be listed
    "cano_keep_runs": Answer("a RunKeeper", ("keeps", "view", "begin", "settled", "stopped_driving", "close")),
    "cano_bind_state": Answer("an async function (run, state) that returns the next state", kind=Callable),
    "cano_bind_call": Answer("an async function (argument) that returns the call's result", kind=Callable),
    "cano_default_config": Answer("a TaskConfig", kind=TaskConfig),
    "cano_retry_strategy": _like("a RetryStrategy", RetryStrategy),
    "cano_draw": Answer("the text of an SVG", kind=str),
    "cano_watch_lateness": Answer("an observer of a workflow's runs", WATCHED),
}
"""The right answers to each provider hook."""
PROVIDERS = {
    "store": ("cano_open_store", "url"),
    "executor": ("cano_open_executor", "url"),
    "codec layer": ("cano_codec_layer", "spec"),
    "retry strategy": ("cano_retry_strategy", "spec"),
}
"""The hooks that are asked with a URL or a name, and the argument for it."""
STORES = Answer("a mapping from URL schemes to Capabilities", kind=Mapping)


def ask(manager: pluggy.PluginManager, hook: str, arguments: Mapping[str, Any]) -> Any:
    """Return the first answer of a plugin to a provider hook, or None.

    Raises:
        PluginError: the answer is wrong.
    """
    caller, right = getattr(manager.hook, hook), ANSWERS[hook]
    answer = caller(**arguments)
    if answer is None or right.allows(answer):
        return answer
    impls = caller.get_hookimpls()
    for impl in reversed(impls):  # asked again, one by one, to find out who gave the answer
        own = None if impl.wrapper else impl.function(*map(arguments.get, impl.argnames))
        if own is not None and not right.allows(own):
            raise _wrong(impl.plugin_name, hook, own, right)
    raise _wrong(impls[-1].plugin_name, hook, answer, right)  # a wrapper; these are the last


def stores(manager: pluggy.PluginManager) -> dict[str, Mapping[str, Capabilities]]:
    """Return the capabilities of the stores of each active plugin, by URL scheme.

    Raises:
        PluginError: a plugin's answer to `cano_stores` is wrong.
    """
    found: dict[str, Mapping[str, Capabilities]] = {}
    for impl in manager.hook.cano_stores.get_hookimpls():
        answer: Any = impl.function()
        if not STORES.allows(answer) or not all(isinstance(each, Capabilities) for each in answer.values()):
            raise _wrong(impl.plugin_name, "cano_stores", answer, STORES)
        found[impl.plugin_name] = answer
    return found


def _wrong(name: str, hook: str, answer: object, right: Answer) -> PluginError:
    message = f"the plugin {name!r} answered {hook} with {safe_repr(answer):.200}; it must be {right.text}"
    if isinstance(answer, type):
        message += ", not a class"
    elif lacks := right.lacks(answer):
        message += f", but it has no {', '.join(lacks)}"
    return PluginError(message, plugin=name)
