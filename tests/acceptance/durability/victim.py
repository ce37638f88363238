"""A program that takes over every run of a store under an audit hook, and says what happened.

python victim.py STORE
"""

from __future__ import annotations

import asyncio
import difflib  # noqa: F401  # messages use it: imported here, so that the hook sees no import of it
import json
import sys
from enum import Enum
from typing import Any

from cano import CanoError, Kernel, KeyValueStore, Workflow

BUILT: list[str] = []


class State(Enum):
    """One step."""

    OPEN = 1
    DONE = 2


class Stranger:
    """A class that the program never registers: nothing may build one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        BUILT.append("init")

    def __setstate__(self, state: Any) -> None:
        BUILT.append("setstate")


flow = Workflow(State.OPEN, name="victim")


@flow.on(State.OPEN)
async def read(store: KeyValueStore) -> State:
    """Look at everything."""
    for key in store:
        store[key]
    return State.DONE


flow.add_exit_state(State.DONE)


async def main(url: str) -> None:
    """Resume every run; print per run how that went, and what was imported or built meanwhile."""
    seen: list[str] = []
    active = False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if active and event in ("import", "exec", "compile", "pickle.find_class", "os.system", "subprocess.Popen"):
            seen.append(f"{event} {args!a}"[:120])

    outcomes: dict[str, str] = {}
    async with Kernel(store=url) as kernel:
        names = [record.run_id for record in reversed(await kernel.runs())]  # a spoilt one first
        await kernel.run(flow, {"warm": 1}, run_id="warm-up")  # imports what any run imports
        try:
            await kernel.resume(flow, names[0])  # imports what an error imports
        except CanoError as error:
            outcomes[names[0]] = f"{type(error).__name__}: {error}"
        else:
            outcomes[names[0]] = "fine"
        sys.addaudithook(hook)
        modules = set(sys.modules)
        active = True
        for name in names[1:]:
            try:
                await kernel.resume(flow, name)
            except CanoError as error:
                outcomes[name] = f"{type(error).__name__}: {error}"
            else:
                outcomes[name] = "fine"
        active = False
    print(json.dumps({"seen": seen, "new": sorted(set(sys.modules) - modules), "built": BUILT, "outcomes": outcomes}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
