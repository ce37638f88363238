"""Finds, orders, blocks and checks plugins, and isolates the exceptions of observers."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from cano import hookspecs
from cano.checks import similar
from cano.errors import ConfigurationError, PluginError
from cano.hookspecs import API_VERSION, HOOK_NAMESPACE
from cano.plugins.advice import PLUGINS, unanswered
from cano.plugins.providers import PROVIDERS, ask, stores
from cano.plugins.wrapping import Wrapped
from cano.safe_text import error_text, safe_repr

if TYPE_CHECKING:
    import importlib.metadata

    from cano.protocols import Capabilities

_BUILT_IN = ("concurrency",)
"""Plugins that ship with the kernel: packages of `cano`, registered before all others, which can replace them."""
_ALWAYS = "durability"
"""The plugin that is loaded wherever its distribution `cano-durability` is installed, unless it is blocked."""
_MAY_BE_ASYNC = ("cano_kernel_started", "cano_kernel_stopping")
_GROUP = "cano"
_DIRECT = "given to the kernel"
_log = logging.getLogger("cano")


class PluginWarning(UserWarning):
    """A plugin was skipped. The message names it and says why."""


class PluginInfo(NamedTuple):
    """A plugin, whether it is active or not.

    Attributes:
        name: the name of its entry point, or of the object.
        distribution: the distribution that contains it, or a text that says where else it comes from.
        version: that distribution's version, or "".
        status: "active", "blocked" or "failed".
        hooks: the hooks that it implements, sorted.
        error: the reason why it failed, or None.
    """

    name: str
    distribution: str
    version: str
    status: str
    hooks: tuple[str, ...] = ()
    error: str | None = None

    @property
    def origin(self) -> str:
        """Distribution and version in one."""
        return f"{self.distribution} {self.version}".rstrip()


class Plugins:
    """The plugins of one kernel.

    Args:
        plugins: objects with hook implementations, or names of installed plugins.
        discover: whether to load every installed plugin.
        block: names that are never imported, or a mapping from them to the reasons; the environment variable CANO_BLOCK
            adds to them, and CANO_PLUGINS, if it is not empty, all installed ones that it does not name.
        strict: whether a broken plugin is refused, rather than skipped with a warning.
    """

    def __init__(self, plugins: Iterable[Any], *, discover: bool, block: Iterable[str], strict: bool) -> None:
        if isinstance(plugins, str) or not isinstance(plugins, Iterable):
            raise ConfigurationError(f"plugins must be a list of plugins or their names, not {plugins!r}")
        blocked = () if isinstance(block, str) or not isinstance(block, Iterable) else tuple(block)
        reasons = block if isinstance(block, Mapping) else dict.fromkeys(blocked, "blocked by block=; remove it there")
        if (block and not blocked) or not all(isinstance(text, str) for text in (*blocked, *reasons.values())):
            raise ConfigurationError(f"block must be a list of plugin names, such as ['retry'], not {block!r}")
        self.manager = pluggy.PluginManager(HOOK_NAMESPACE)
        self.manager.add_hookspecs(hookspecs)
        self.observer_errors: Counter[str] = Counter()
        self._given = tuple(plugins)
        self._discover = discover
        by_variable = dict.fromkeys(_named_in("CANO_BLOCK"), "blocked by CANO_BLOCK; remove it there")
        self._blocked: dict[str, str] = {**by_variable, **reasons}
        self._allowed = _named_in("CANO_PLUGINS")
        self._strict = strict
        self._infos: dict[str, PluginInfo] = {}
        self._loaded = False
        self._lock = threading.Lock()
        self._problem: Exception | None = None

    @property
    def infos(self) -> list[PluginInfo]:
        """Every plugin that was found, active or not, in the order of registration."""
        return list(self._infos.values())

    def load(self) -> None:
        """Import and register the plugins. Later calls do nothing, or raise the same error again.

        Raises:
            PluginError: two plugins have the same name; or, if `strict`, one is broken.
            ConfigurationError: a plugin that was given by name is not installed.
        """
        with self._lock:
            if self._loaded:
                return
            if self._problem is not None:
                raise self._problem
            try:
                self._load()
            except Exception as error:
                self._problem = error
                raise
            self._loaded = True

    def _load(self) -> None:
        for name in _BUILT_IN:
            self._admit(
                PluginInfo(name, "cano", "built-in", "active"), partial(importlib.import_module, f"cano.{name}")
            )
        wanted = {plugin for plugin in self._given if isinstance(plugin, str)}
        for point in self._entry_points(wanted):
            origin = ("unknown distribution", "") if point.dist is None else _origin(point.dist)
            info = PluginInfo(point.name, *origin, "active")
            self._admit(info, point.load)
        for plugin in self._given:
            if not isinstance(plugin, str):
                name = str(getattr(plugin, "__name__", type(plugin).__name__))
                while name in self._infos:
                    name += "'"
                self._admit(PluginInfo(name, _DIRECT, "", "active"), lambda given=plugin: given)  # type: ignore[misc]
        self._check_blocked()
        self._add_hookspecs()
        for info in self.infos:
            if info.status == "active":
                self._check_hooks(info)

    def _entry_points(self, wanted: set[str]) -> list[importlib.metadata.EntryPoint]:
        import importlib.metadata  # late: importing it takes longer than importing cano

        found: Iterable[importlib.metadata.EntryPoint] = ()
        if self._discover or wanted:
            found = importlib.metadata.entry_points(group=_GROUP)
        else:  # to look up one distribution is much faster than to list all
            with suppress(importlib.metadata.PackageNotFoundError):
                found = importlib.metadata.distribution(f"cano-{_ALWAYS}").entry_points.select(group=_GROUP)
        if self._allowed:
            others = {point.name for point in found} - {*self._allowed, _ALWAYS}
            self._blocked = {**dict.fromkeys(others, "not in CANO_PLUGINS; add it there"), **self._blocked}
            wanted = wanted | self._allowed if self._discover else wanted
        points: dict[str, importlib.metadata.EntryPoint] = {}
        for point in sorted(found, key=lambda point: point.name):
            if not self._discover and point.name not in {*wanted, _ALWAYS}:
                continue
            other = points.setdefault(point.name, point)
            if other.value != point.value and point.name not in self._blocked:
                both = " and ".join(f"{p.dist.name} {p.dist.version}" if p.dist else p.value for p in (other, point))
                raise PluginError(
                    f"two plugins are named {point.name!r}: those of {both}; uninstall one",
                    plugin=point.name,
                    distribution=both,
                )
        if missing := wanted - points.keys():
            names = {point.name for point in found}
            asked = ", ".join(f"{name!r}{similar(name, names)}" for name in sorted(missing))
            there = ", ".join(sorted(names)) or "none"
            raise ConfigurationError(f"no plugin named {asked} is installed; there are: {there}")
        return list(points.values())

    def _check_blocked(self) -> None:
        """Warn of blocked names that no plugin has, installed or not: they are misspelt."""
        # to read the metadata of all distributions takes longer than all the rest, so look among Cano's own names first
        if (unknown := self._blocked.keys() - self._infos.keys()) and (unknown := unknown - _released()):
            names = _installed() | _released() | self._infos.keys()
            for name in sorted(unknown - names):
                reason = self._blocked[name].partition(";")[0]
                _warn(f"the name {name!r}{similar(name, names)} is {reason}, but no plugin has it")

    def _admit(self, info: PluginInfo, load: Callable[[], Any]) -> None:
        """Register one plugin, or record why it cannot be. A broken plugin is not registered in part."""
        if info.name in _BUILT_IN and info.name in self._infos:
            message = f"the plugin {info.name!r} of {info.origin} has the name of a built-in one; rename it"
            raise PluginError(message, plugin=info.name, distribution=info.origin)
        self._infos[info.name] = info
        if info.name in self._blocked:
            self.manager.set_blocked(info.name)
            self._infos[info.name] = info._replace(status="blocked")
            return
        try:
            plugin = load()
            plugin = plugin() if isinstance(plugin, type) else plugin
            version = getattr(plugin, "CANO_API_VERSION", API_VERSION)
            # version 2 renamed methods of stores; nothing else has changed
            if version != API_VERSION and (version != 1 or hasattr(plugin, "cano_open_store")):
                raise PluginError(f"it was written for version {version} of Cano's plugin API, this is {API_VERSION}")
            self.manager.register(plugin, info.name)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin may raise anything
            self._fail(info, error)

    def _add_hookspecs(self) -> None:
        """Let plugins add their own hookspecs, one by one, so that an error names the plugin that raised it."""
        plugins = [impl.plugin for impl in reversed(self.manager.hook.cano_add_hookspecs.get_hookimpls())]
        for plugin in plugins:
            others = [other for other in plugins if other is not plugin]
            try:
                self.manager.subset_hook_caller("cano_add_hookspecs", others)(pm=self.manager)
            except Exception as error:  # noqa: BLE001  # a plugin may raise anything
                # if a plugin implements a new hook of another wrongly, both fail: the new hooks were added in part only
                wrong = error.plugin if isinstance(error, pluggy.PluginValidationError) else plugin
                for name in dict.fromkeys([self.manager.get_name(wrong), self.manager.get_name(plugin)]):
                    self._fail(self._infos[str(name)], error)

    def _check_hooks(self, info: PluginInfo) -> None:
        plugin = self.manager.get_plugin(info.name)
        callers = self.manager.get_hookcallers(plugin) or []
        own = [(caller, impl) for caller in callers for impl in caller.get_hookimpls() if impl.plugin is plugin]
        names = sorted(caller.name for caller in callers)
        unknown = [caller.name for caller, impl in own if not caller.has_spec() and not impl.optionalhook]
        old = [caller.name for caller, impl in own if impl.hookwrapper]
        asynchronous = [
            caller.name
            for caller, impl in own
            if hasattr(hookspecs, caller.name) and caller.name not in _MAY_BE_ASYNC and _is_async(impl.function)
        ]
        try:
            if not names and info.distribution == _DIRECT:
                raise PluginError("it implements no hook; mark its functions with @hookimpl")
            if unknown:
                raise PluginError(f"it implements hooks that do not exist: {', '.join(unknown)}; check their spelling")
            if old:
                raise PluginError(f"it wraps {', '.join(old)} in the old way; write wrapper=True for hookwrapper=True")
            if asynchronous:
                raise PluginError(
                    f"it implements {', '.join(asynchronous)} as async; only {' and '.join(_MAY_BE_ASYNC)} may be"
                )
        except PluginError as error:
            self._fail(info, error)
        else:
            self._infos[info.name] = info._replace(hooks=tuple(names))

    def _fail(self, info: PluginInfo, error: BaseException) -> None:
        if self.manager.has_plugin(info.name):
            self.manager.unregister(name=info.name)
        reason = str(error) if isinstance(error, PluginError) else error_text(error)
        self._infos[info.name] = info._replace(status="failed", hooks=(), error=reason)
        message = (
            f"the plugin {info.name!r} ({info.origin}) cannot be used: {reason}. "
            f"Repair or uninstall it, or block it: Kernel(block=[{info.name!r}]) or CANO_BLOCK={info.name}"
        )
        if self._strict or info.distribution == _DIRECT:
            raise PluginError(message, plugin=info.name, distribution=info.origin) from error
        _warn(message)

    # for kernels

    def listeners(self, hook: str) -> tuple[Callable[[Any], Any], ...]:
        """Return the implementations of a lifecycle hook in pluggy's order, to be called directly."""
        caller = getattr(self.manager.hook, hook)
        impls = list(reversed(caller.get_hookimpls()))
        wrappers = [impl for impl in impls if impl.wrapper]
        if wrappers and hook in _MAY_BE_ASYNC:  # the caller handles their exceptions
            return (lambda kernel: caller(kernel=kernel),)
        listeners = tuple(_one_argument(impl) for impl in impls if impl not in wrappers)
        around = tuple(map(_one_argument, wrappers))
        return (Wrapped(around, listeners, self.observer_failed),) if wrappers else listeners

    def observer_failed(self, listener: Callable[[Any], None], error: BaseException) -> None:
        """Count an observer's exception; log its first one."""
        name = f"{getattr(listener, '__module__', '')}.{getattr(listener, '__qualname__', None) or safe_repr(listener)}"
        self.observer_errors[name] += 1
        if self.observer_errors[name] == 1:
            _log.error("observer %s raised; the run continues, later errors are only counted", name, exc_info=error)

    def inactive(self, name: str) -> str | None:
        """Return why a plugin is not active, with the remedy if there is one; None if it is active."""
        self.load()
        if name in self._blocked:
            return self._blocked[name]
        if (info := self._infos.get(name)) is not None:
            return None if info.status == "active" else f"broken: {info.error}"
        if name in _installed():
            return f"installed, but not loaded, because of discover=False; add it: plugins=[{name!r}]"
        return f"not installed; it is in the distribution cano-{name}"

    def ask(self, hook: str, **arguments: Any) -> Any:
        """Return the first answer of a plugin to a provider hook, or None. Raises PluginError if it is wrong."""
        return ask(self.manager, hook, arguments)

    def stores(self) -> dict[str, Mapping[str, Capabilities]]:
        """See `Kernel.stores`."""
        self.load()
        return stores(self.manager)

    def provided(self, kind: str, given: str) -> Any:
        """Return what a plugin provides for a URL or a name; None for what a kernel can do without.

        Args:
            kind: a key of `PROVIDERS`.

        Raises:
            ConfigurationError: no plugin answers; the error says why, and what to do.
            PluginError: the answer is wrong.
        """
        hook, argument = PROVIDERS[kind]
        answer = self.ask(hook, **{argument: given})
        if answer is None and given not in ("memory://", "none"):
            schemes = {scheme for each in self.stores().values() for scheme in each}
            inactive = {info.name for info in self.infos if info.status != "active"}
            others = sorted(inactive - (_released() - {*PLUGINS.get(kind, {}).values()}))
            raise unanswered(kind, given, schemes, others, self.inactive)
        return answer


def _warn(message: str) -> None:
    """Warn at the line of the program that made or opened the kernel."""
    own, frame, level = os.path.dirname(hookspecs.__file__) + os.sep, sys._getframe(), 1
    while frame.f_code.co_filename.startswith(own) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, PluginWarning, stacklevel=level)


def _named_in(variable: str) -> set[str]:
    return {*filter(None, map(str.strip, os.environ.get(variable, "").split(",")))}


def _installed() -> set[str]:
    """Return the names of all installed plugins, loaded or not."""
    import importlib.metadata  # late: importing it takes longer than importing cano

    return {*_BUILT_IN, *(point.name for point in importlib.metadata.entry_points(group=_GROUP))}


def _released() -> set[str]:
    """Return the names of the plugins that are released with the kernel, as its extra `all` names them."""
    from importlib.metadata import PackageNotFoundError, requires

    with suppress(PackageNotFoundError):
        return {need.partition("~=")[0].removeprefix("cano-") for need in requires("cano") or () if "cano-" in need}
    return set()


def _one_argument(impl: pluggy.HookImpl) -> Callable[[Any], None]:
    function: Callable[..., Any] = impl.function
    return function if impl.argnames else wraps(function)(lambda _: function())


def _origin(dist: importlib.metadata.Distribution) -> tuple[str, str]:
    """Return the name and the version of a distribution. To parse all of its metadata would take longer."""
    head = (dist.read_text("METADATA") or dist.read_text("PKG-INFO") or "").partition("\n\n")[0]
    about = dict(line.partition(": ")[::2] for line in head.splitlines())
    return about.get("Name", "unknown distribution"), about.get("Version", "")


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
