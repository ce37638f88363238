"""Names of functions: how another process finds the function of a task without getting its code."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, NamedTuple, get_args, get_origin

from cano import Codec, CodeVersionError, ConfigurationError, FunctionTask, SerializationError, Task


class Target(NamedTuple):
    """A function of a module, or a method of an object that is made in the other process.

    Attributes:
        name: the function, or the object's class, as `module:qualname`.
        method: the method's name; "" for a function.
        attributes: the object's attributes, encoded.
        code: a digest of the module's source; "" if there is none.
        arguments: those of a `functools.partial`, encoded; b"" if it is none.
    """

    name: str
    method: str
    attributes: Mapping[str, bytes]
    code: str
    arguments: bytes = b""

    def found(self, codec: Codec) -> Any:
        """Return the function.

        Raises:
            CodeVersionError: this process does not have it, or has another version of its module.
        """
        try:
            found = _at(self.name)
        except (ImportError, AttributeError) as error:
            message = f"process {_process()} cannot import the task {self.name}: {error}; install its module there"
            raise CodeVersionError(message, name=self.name) from error
        if self.code != source_digest(self.name.partition(":")[0]):
            message = f"process {_process()} has another version of the module of the task {self.name}; install one of"
            raise CodeVersionError(f"{message} them on both sides", name=self.name)
        if self.arguments:
            args, keywords = codec.decode(self.arguments)
            return partial(found, *args, **keywords)
        if not self.method:
            return found.function if isinstance(found, FunctionTask) else found
        made = object.__new__(found)
        for name, value in self.attributes.items():
            object.__setattr__(made, name, codec.decode(value))
        return getattr(made, self.method)


def target_of(function: Any, codec: Codec) -> Target:
    """Return how another process finds `function`, of a task.

    Raises:
        ConfigurationError: it cannot be found there: it is not a function of a module, or an attribute cannot be sent.
    """
    if isinstance(function, partial):
        inner = function.func
        try:
            arguments = codec.encode([list(function.args), function.keywords])
        except SerializationError as error:
            problem = f"an argument of the partial of {inner!r} cannot be sent to another process: {error}"
            raise ConfigurationError(problem) from error
        return Target(_name(inner, inner), "", {}, source_digest(inner.__module__), arguments)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, Task):
        kind, attributes = type(owner), {}
        for name, value in _attributes(owner):
            try:
                attributes[name] = codec.encode(value)
            except SerializationError as error:
                message = f"attribute {name!r} of the task {kind.__qualname__} cannot be sent to another process"
                remedy = "make it in the method that is executed there"
                raise ConfigurationError(f"{message}: {error}; {remedy}", key=name) from error
        return Target(_name(kind, kind), function.__name__, attributes, source_digest(kind.__module__))
    return Target(_name(function, function), "", {}, source_digest(function.__module__))


def _attributes(task: Task[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object, but those that only its own process reads."""
    slots = [name for kind in type(task).__mro__ for name in _listed(vars(kind).get("__slots__", ()))]
    names = dict.fromkeys([*vars(task), *slots] if hasattr(task, "__dict__") else slots)
    for name in names:
        if name not in ("config", "targets", "__doc__", "__dict__", "__weakref__") and hasattr(task, name):
            yield name, getattr(task, name)


def _listed(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _name(named: Any, meant: Any) -> str:
    """Return `module:qualname`. Raises ConfigurationError if that does not lead back to `meant`."""
    module, qualname = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    if module is None or qualname is None:
        raise ConfigurationError(
            f"{meant!r} cannot be sent to another process: it has no name; use a module's function"
        )
    try:
        found = _at(f"{module}:{qualname}")
    except (ImportError, AttributeError):
        found = None
    if (found.function if isinstance(found, FunctionTask) else found) != meant:
        problem = "it is local to a function" if "<locals>" in qualname else "its name leads to another object"
        problem = "a lambda has no name of its own" if getattr(named, "__name__", "") == "<lambda>" else problem
        message = f"{module}:{qualname} cannot be sent to another process: {problem}; define it at the top of a module"
        raise ConfigurationError(message)
    return f"{module}:{qualname}"


def _at(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def class_named(name: str) -> type | None:
    """Return a class by `module:qualname`; None if this process does not have it."""
    try:
        found = _at(name)
    except Exception:  # noqa: BLE001  # whatever the import of its module raises
        return None
    return found if isinstance(found, type) else None


def class_name(kind: type) -> str:
    """Return the name by which `class_named` finds a class."""
    return f"{kind.__module__}:{kind.__qualname__}"


def class_names(annotations: Iterable[Any]) -> tuple[str, ...]:
    """Return the names of all classes in annotations that another process can import."""
    found, pending = dict[str, None](), [*annotations]
    while pending:
        each = pending.pop()
        if isinstance(each, type) and get_origin(each) is None:
            if each.__module__ != "builtins" and "<locals>" not in each.__qualname__:
                found[class_name(each)] = None
        else:
            pending += [arg if isinstance(arg, type) or get_origin(arg) else type(arg) for arg in get_args(each)]
    return tuple(sorted(found))


@cache
def source_digest(module: str) -> str:
    """Return a digest of a module's source, as it was when this process first asked for it; "" if there is none."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:16]


def _process() -> str:
    import os  # late: only a message needs them
    import socket

    return f"{os.getpid()} on {socket.gethostname()}"
