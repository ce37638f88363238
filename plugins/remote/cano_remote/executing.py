"""Executes calls, in the processes of an executor."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, lru_cache
from typing import Any

from cano import Codec, ConfigurationError, Plugins, StoreView

from cano_remote.elsewhere import enter, known_flow
from cano_remote.naming import class_named
from cano_remote.packing import Answer, Header, packed_error, unpacked_error, unpacked_outcome
from cano_remote.reports import Reporter

_lock = threading.Lock()
_own = threading.local()


def execute(request: bytes, send: Callable[[bytes], object] | None = None) -> bytes:
    """Execute a packed call and return its packed answer. This is the function of each `Call` to a remote executor.

    It may be called in any thread in which no event loop runs. An async function gets the event loop of that thread.

    Args:
        request: the packed call.
        send: the executor's channel for what the call reports before it ends; None if it has none.
    """
    codec = _codec()
    reporter = Reporter(codec, send)
    try:
        return contextvars.copy_context().run(_execute, request, codec, reporter)
    except BaseException as error:  # noqa: BLE001  # sent back, and raised there; an exit must not end this process
        return packed_error(error, codec)
    finally:
        reporter.end()


def _execute(request: bytes, codec: Codec, reporter: Reporter) -> bytes:
    head, context, values = codec.decode(request)
    header, flow = _header(head)
    function = header.target.found(codec)
    step, argument = codec.decode(values)
    remaining, outcome, error = step["deadline"], step["outcome"], step["error"]
    known = {
        **step, "deadline": None if remaining is None else time.monotonic() + remaining,
        "outcome": outcome and unpacked_outcome(outcome, codec), "error": error and unpacked_error(error, codec),
    }  # fmt: skip
    reporter.detail = enter(known, reporter, flow)
    view = StoreView(argument, reads=set()) if header.whole else None
    with ExitStack() as stack:
        for received in _plugins().manager.hook.cano_receive_context(context=context):
            stack.enter_context(received)
        result = function(argument if view is None else view)
        if inspect.isawaitable(result):
            result = _loop().run_until_complete(_finished(result))
    if view is None:
        return Answer(result, reported=reporter.end()).packed(codec)
    return Answer(result, view.changes(), tuple(sorted(view.reads or ())), reporter.end()).packed(codec)


@lru_cache(maxsize=1024)
def _header(head: bytes) -> tuple[Header, Any]:
    """Return the header, and what the step knows of its workflow. Let the codec know its classes, once."""
    codec = _codec()
    header = Header.unpacked(head, codec)
    with _lock:
        codec.register(*filter(None, map(class_named, header.types)))
    return header, known_flow({name: class_named(kind) for name, kind in header.attributes.items()})


async def _finished(work: Any) -> Any:
    """Await the work, and then cancel the tasks that it left behind: nothing executes them between calls."""
    try:
        return await work
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _Loop:
    """The event loop of a thread, which is closed when the thread ends. To make one takes longer than most calls."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def __del__(self) -> None:
        self.loop.close()


def _loop() -> asyncio.AbstractEventLoop:
    if not hasattr(_own, "loop"):
        _own.loop = _Loop()
    loop: asyncio.AbstractEventLoop = _own.loop.loop
    return loop


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
