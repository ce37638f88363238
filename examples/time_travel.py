"""Time travel: fork a finished run at an earlier decision and try another one.

Run as `python examples/time_travel.py [FOLDER] [--store URL]`.

The run reads text files, which is slow, then waits 0.1 s for a signal with the name of a codec. No signal comes, so it
uses zlib. The example finds this transition in the run's history and forks the run there. A fork has all the data of
that moment, so it uses another codec without reading the files again.

Without a folder the texts are the modules of Python's library. Kill it at any time and run it again: every run and fork
is resumed.
"""

import argparse
import asyncio
import bz2
import lzma
import sys
import sysconfig
import zlib
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Literal

from cano import Kernel, Key, KeyValueStore, Workflow, current_step, wait_for


class State(Enum):
    READ = auto()
    CHOOSE = auto()
    COMPRESS = auto()
    DONE = auto()


FOLDER = Key("folder", str)
TEXT = Key("text", bytes)
CODEC = Key("codec", str)
SIZE = Key("size", int)

CODECS: dict[str, Callable[[bytes], bytes]] = {"zlib": zlib.compress, "bz2": bz2.compress, "lzma": lzma.compress}

flow = Workflow(State.READ, name="compression").add_exit_state(State.DONE)


@flow.on(State.READ)
def read(store: KeyValueStore) -> Literal[State.CHOOSE]:
    folder = store.get(FOLDER, default=None)
    found = Path(sysconfig.get_path("stdlib")).glob("[a-d]*.py") if folder is None else Path(folder).rglob("*.txt")
    paths = sorted(path for path in found if path.is_file())
    store[TEXT] = b"".join(path.read_bytes() for path in paths)
    print(f"{current_step().run_id} read {len(paths)} files, {len(store[TEXT])} bytes", flush=True)
    return State.CHOOSE


@flow.on(State.CHOOSE)
async def choose(store: KeyValueStore) -> Literal[State.COMPRESS]:
    return wait_for("codec", then=State.COMPRESS, timeout=0.1, on_timeout=State.COMPRESS)


@flow.on(State.COMPRESS)
def compress(store: KeyValueStore) -> Literal[State.DONE]:
    store[CODEC] = current_step().payload or "zlib"
    store[SIZE] = len(CODECS[store[CODEC]](store[TEXT]))
    print(f"{current_step().run_id} used {store[CODEC]}: {store[SIZE]} bytes", flush=True)
    return State.DONE


async def main() -> int:
    parser = argparse.ArgumentParser(description="Compress texts, then fork the run and use other codecs.")
    parser.add_argument("folder", nargs="?", type=Path, help="folder with *.txt files; by default Python's library")
    parser.add_argument("--store", default="sqlite:///time_travel.db", help="URL of the store for the runs")
    given = parser.parse_args()
    data = {}
    if given.folder is not None:
        if not given.folder.is_dir():
            parser.error(f"not a folder: {given.folder}")
        data[FOLDER] = str(given.folder.absolute())

    async with Kernel(store=given.store, lease=1) as kernel:
        first = await kernel.run(flow, data, run_id="first")
        print("seq  status     next      changed")
        decision = 0
        for entry in await kernel.history("first"):
            print(f"{entry.seq:3}  {entry.status.value:9}  {entry.state:8}  {', '.join(entry.changed)}")
            if entry.state == State.CHOOSE.name:
                decision = entry.seq

        known = {run.run_id for run in await kernel.runs(workflow=flow.name)}
        for codec in ("bz2", "lzma"):
            fork = f"first with {codec}"
            if fork not in known:
                await kernel.fork("first", decision, fork)
            await kernel.signal(fork, "codec", codec, id="the choice")  # with an id, so that it counts once
            result = await kernel.run(flow, run_id=fork)  # resumes the fork, or returns its result
            saved = first.data[str(SIZE)] - result.data[str(SIZE)]
            print(f"{result.data[str(CODEC)]} instead of {first.data[str(CODEC)]} saves {saved} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
