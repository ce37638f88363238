"""Cano in 20 lines: two tasks, and a run that is stored after each of them."""

import asyncio
from typing import Literal

from cano import Kernel, KeyValueStore, Workflow

flow = Workflow("SPLIT", name="word-count").add_exit_state("DONE")


@flow.on("SPLIT")
async def split(store: KeyValueStore) -> Literal["COUNT"]:
    store["words"] = store.get("text", str, "to be or not to be").split()
    return "COUNT"


@flow.on("COUNT")
async def count(store: KeyValueStore) -> Literal["DONE"]:
    words = store["words"]
    store["counts"] = {word: words.count(word) for word in words}
    return "DONE"


async def main() -> None:
    async with Kernel(store="sqlite:///runs.db") as kernel:
        result = await kernel.run(flow, {"text": "the more the merrier"}, run_id="first")
    print(result.state, result.data["counts"])


if __name__ == "__main__":
    asyncio.run(main())
