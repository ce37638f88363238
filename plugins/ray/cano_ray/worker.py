"""The function that a worker process of Ray executes for each call."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from multiprocessing.spawn import get_preparation_data, prepare

NAME, PATH = "init_main_from_name", "init_main_from_path"
_prepared = threading.Event()
_lock = threading.Lock()


def main_program() -> dict[str, str]:
    """Return how another process imports the main program of this one, if it can."""
    data = get_preparation_data("cano-ray")
    return {key: data[key] for key in (NAME, PATH) if key in data}


def execute(function: Callable[..., bytes], args: tuple[bytes, ...], main: Mapping[str, str]) -> bytes:
    """Execute a call, after the main program was imported, so that its `__main__` is found here by that name.

    Args:
        function: the function.
        args: its arguments.
        main: what `main_program` returned. Another machine may not have that program, and is then without it.
    """
    with _lock:
        if not _prepared.is_set():
            if os.path.isfile(main.get(PATH, "")) or (NAME in main and find_spec(main[NAME]) is not None):
                prepare(dict(main))
            _prepared.set()
    return function(*args)
