"""The program of a worker process: `python -m cano_process.worker FD` executes the calls that come over a socket.

It ends when the process that started it does, also in the middle of a call.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import runpy
import signal
import socket
import sys
import threading
import traceback
import types
from typing import Any

from cano_process import frames
from cano_process.frames import NAME


def serve(connection: socket.socket) -> None:
    """Execute calls, one after the other, until the socket is closed."""
    # Ctrl-C goes to the whole process group, but the process of the run decides what ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    calls: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    busy = threading.Lock()
    threading.Thread(target=_listen, args=(connection, calls, busy), daemon=True).start()
    with busy:
        try:
            _prepare(json.loads(calls.get() or b""))
        except BaseException:  # noqa: BLE001  # whatever the program's import raises, SystemExit included
            traceback.print_exc()
            sys.exit(frames.NOT_IMPORTED)

    sending = threading.Lock()  # a thread of the call may report

    def report(data: bytes) -> None:
        with sending:
            frames.send(connection, frames.REPORTED, data)

    while (call := calls.get()) is not None:
        with busy:
            name, _, request = call.partition(frames.END)
            more = (report,) if name[:1] == frames.REPORTING else ()
            answer = _execute(name[1:].decode(), request, *more)
        try:
            with sending:
                frames.send(connection, answer)
        except OSError:  # the process of the run is gone, or a call has closed the socket, and the answer is lost
            os._exit(1)


def _execute(name: str, *args: Any) -> bytes:
    module, _, function = name.partition(":")
    try:
        returned: bytes = getattr(importlib.import_module(module), function)(*args)
    except Exception:  # noqa: BLE001  # the process of the run raises an error with its text
        return frames.RAISED + traceback.format_exc().encode(errors="replace")
    return frames.RETURNED + returned


def _listen(connection: socket.socket, calls: queue.SimpleQueue[bytes | None], busy: threading.Lock) -> None:
    while (frame := frames.receive(connection)) is not None:
        calls.put(frame)
    if not busy.acquire(blocking=False):
        os._exit(0)  # the process of the run is gone, and so is the need for what is executed now
    calls.put(None)  # a worker without work ends like a program, so that what is buffered is written
    busy.release()


def _prepare(parent: dict[str, Any]) -> None:
    """Import what the program of the parent process imports, so that its `__main__` is found here by that name."""
    sys.path[:] = parent["path"]
    made = sys.modules[NAME] = types.ModuleType(NAME)
    if "module" in parent["main"]:
        made.__dict__.update(runpy.run_module(parent["main"]["module"], run_name=NAME, alter_sys=True))
    elif "file" in parent["main"]:
        made.__dict__.update(runpy.run_path(parent["main"]["file"], run_name=NAME))
    else:
        return
    sys.modules["__main__"] = made


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
