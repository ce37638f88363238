"""Time travel: go back to where a run was decided, and see what another decision would have come to.

Run as `python examples/time_travel.py [FOLDER] [--store URL]`.

The run reads text files, which is slow, then waits a moment for somebody to choose how to compress them; nobody does,
and it takes zlib. Its history says at which transition that was. A fork from there has all the data of that moment and
chooses anew, without reading a single file again. Without a folder the texts are the modules of Python's library. Kill
it at any time and run it again: every run, forked ones too, goes on where it was.
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
    return wait_for("codec", then=State.COMPRESS, timeout=0.1)


@flow.on(State.COMPRESS)
def compress(store: KeyValueStore) -> Literal[State.DONE]:
    store[CODEC] = current_step().payload or "zlib"
    store[SIZE] = len(CODECS[store[CODEC]](store[TEXT]))
    print(f"{current_step().run_id} used {store[CODEC]}: {store[SIZE]} bytes", flush=True)
    return State.DONE


async def main() -> int:
    parser = argparse.ArgumentParser(description="Compress texts, then go back and choose another way to do it.")
    parser.add_argument("folder", nargs="?", type=Path, help="its *.txt files; by default Python's library")
    parser.add_argument("--store", default="sqlite:///time_travel.db", help="where the runs are kept")
    given = parser.parse_args()
    data = {}
    if given.folder is not None:
        if not given.folder.is_dir():
            parser.error(f"not a folder: {given.folder}")
        data[FOLDER] = str(given.folder.absolute())

    async with Kernel(store=given.store, lease=1) as kernel:
        first = await kernel.run(flow, data, run_id="first")
        print("seq  status     next      changed")
        crossroads = 0
        for line in await kernel.history("first"):
            print(f"{line.seq:3}  {line.status.value:9}  {line.state:8}  {', '.join(line.changed)}")
            if line.state == State.CHOOSE.name:
                crossroads = line.seq

        known = {run.run_id for run in await kernel.runs(workflow=flow.name)}
        for codec in ("bz2", "lzma"):
            fork = f"first with {codec}"
            if fork not in known:
                await kernel.fork("first", crossroads, fork)
            await kernel.signal(fork, "codec", codec, id="the choice")  # sent again after a crash it counts once
            result = await kernel.run(flow, run_id=fork)  # a known id goes on from where it stands
            saved = first.data[str(SIZE)] - result.data[str(SIZE)]
            print(f"{result.data[str(CODEC)]} instead of {first.data[str(CODEC)]} saves {saved} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
