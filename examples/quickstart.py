"""Cano in 20 lines: two tasks, three states, one store."""

from enum import Enum, auto
from typing import Literal

from cano import KeyValueStore, Workflow


class State(Enum):
    SPLIT = auto()
    COUNT = auto()
    DONE = auto()


flow = Workflow(State.SPLIT).add_exit_state(State.DONE)


@flow.on(State.SPLIT)
async def split(store: KeyValueStore) -> Literal[State.COUNT]:
    store["words"] = store.get("text", str, "to be or not to be").split()
    return State.COUNT


@flow.on(State.COUNT)
async def count(store: KeyValueStore) -> Literal[State.DONE]:
    words = store["words"]
    store["counts"] = {word: words.count(word) for word in words}
    return State.DONE


if __name__ == "__main__":
    data = {"text": "the more the merrier"}
    print(flow.orchestrate_sync(data), data["counts"])
