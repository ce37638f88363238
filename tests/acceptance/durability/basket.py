"""A program whose run keeps a class that its workflow names, or does not.

python basket.py STORE TYPES CALL FATE

TYPES: `named` or `unnamed`.
CALL: `run` or `resume`.
FATE: `dies` for a process that is killed in the second step, or `lives`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field

from cano import CanoError, Kernel, KeyValueStore, TaskConfig, Workflow


@dataclass
class Basket:
    """What the first step keeps."""

    items: list[str] = field(default_factory=list)


def flow(types: str, fate: str) -> Workflow[str]:
    """The workflow. No annotation of its tasks names the class."""
    made = Workflow(
        "FILL", name="basket", default_config=TaskConfig.minimal(), types=[Basket] if types == "named" else []
    ).add_exit_state("DONE")

    @made.on("FILL")
    async def fill(store: KeyValueStore) -> str:
        store["basket"] = Basket(["lamp"])
        return "COUNT"

    @made.on("COUNT")
    async def count(store: KeyValueStore) -> str:
        if fate == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        store["count"] = len(store["basket"].items)
        return "DONE"

    return made


async def main(url: str, types: str, call: str, fate: str) -> None:
    """Execute the run, and say how that ended."""
    async with Kernel(store=url, lease=5) as kernel:
        made = flow(types, fate)
        try:
            result = await (kernel.resume(made, "one") if call == "resume" else kernel.run(made, run_id="one"))
        except CanoError as error:
            print(error, flush=True)
        else:
            print(result.state, result.data, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
