"""Executes calls, in the processes of an executor."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from contextlib import ExitStack
from functools import cache
from typing import Any

from cano import Codec, ConfigurationError, Plugins, StoreView
from cano.engine.ports import enter_step

from cano_remote.naming import class_named
from cano_remote.packing import Answer, Request, packed_error

_lock = threading.Lock()


def execute(request: bytes) -> bytes:
    """Execute a packed call and return its packed answer. This is the function of each `Call` to a remote executor.

    It may be called in any thread in which no event loop runs. An async function gets an event loop of its own.
    """
    codec = _codec()
    try:
        return contextvars.copy_context().run(_execute, Request.unpacked(request, codec), codec)
    except BaseException as error:  # noqa: BLE001  # sent back, and raised there; an exit must not end this process
        return packed_error(error, codec)


def _execute(request: Request, codec: Codec) -> bytes:
    function = request.target.found(codec)
    with _lock:
        codec.register(*filter(None, map(class_named, request.types)))
    step, argument = codec.decode(request.values)
    remaining = step["deadline"]
    enter_step({**step, "deadline": None if remaining is None else time.monotonic() + remaining})
    view = StoreView(argument, reads=set()) if request.whole else None
    with ExitStack() as stack:
        for context in _plugins().manager.hook.cano_receive_context(context=request.context):
            stack.enter_context(context)
        result = function(argument if view is None else view)
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
    if view is None:
        return Answer(result).packed(codec)
    return Answer(result, view.changes(), tuple(sorted(view.reads or ()))).packed(codec)


async def _awaited(work: Any) -> Any:
    return await work


@cache
def _plugins() -> Plugins:
    plugins = Plugins((), discover=True, block=(), strict=False)
    plugins.load()
    return plugins


@cache
def _codec() -> Codec:
    codec: Codec | None = _plugins().ask("cano_codec")
    if codec is None:
        raise ConfigurationError(f"the plugin 'msgspec' is {_plugins().inactive('msgspec')} in this process")
    return codec
