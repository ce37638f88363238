"""A weather report: a node with separate phases, a function and a class as tasks of one workflow."""

from enum import Enum, auto
from statistics import mean
from typing import Literal

from cano import Key, KeyValueStore, Node, Task, TaskConfig, Workflow, current_step, task
from cano_memory import MemoryStore
from cano_retry import Fixed


class State(Enum):
    ASK = auto()
    CLEAN = auto()
    SUMMARISE = auto()
    DONE = auto()


STATION = Key("station", str)
READINGS = Key("readings", list[str])
DEGREES = Key("degrees", list[float])
REPORT = Key("report", str)


class AskStation(Node[State, str, list[str]]):
    """Calls the station. The first call fails, and only the phase `exec` is retried."""

    config = TaskConfig(retry=Fixed(2, 0.01, retry_on=ConnectionError))

    async def prep(self, store: KeyValueStore) -> str:
        return store.get(STATION, default="Brocken")

    async def exec(self, prepared: str) -> list[str]:
        print(f"calling {prepared}, attempt {current_step().attempt}")
        if current_step().attempt == 1:
            raise ConnectionError("the line is busy")
        return ["11.5", "12.0", "n/a", "14.5", "13.0", ""]

    async def post(self, store: KeyValueStore, prepared: str, result: list[str]) -> Literal[State.CLEAN]:
        store[STATION] = prepared
        store[READINGS] = result
        return State.CLEAN


@task
def clean(store: KeyValueStore) -> Literal[State.SUMMARISE]:
    # a plain function runs in a worker thread, so it may block without delaying other runs
    store[DEGREES] = [float(reading) for reading in store[READINGS] if reading not in ("", "n/a")]
    return State.SUMMARISE


class Summarise(Task[State]):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    async def run(self, store: KeyValueStore) -> Literal[State.DONE]:
        degrees = store[DEGREES]
        low, high = min(degrees), max(degrees)
        store[REPORT] = (
            f"{store[STATION]}: {low} to {high} {self.unit}, mean {mean(degrees)}; "
            f"{len(degrees)} of {len(store[READINGS])} readings usable"
        )
        return State.DONE


flow = (
    Workflow(State.ASK, name="weather")
    .register(State.ASK, AskStation())
    .register(State.CLEAN, clean)
    .register(State.SUMMARISE, Summarise("degrees"))
    .add_exit_state(State.DONE)
)

if __name__ == "__main__":
    store = MemoryStore({"station": "Zugspitze"})
    flow.orchestrate_sync(store)
    print(store.get(REPORT))
