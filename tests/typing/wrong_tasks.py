"""Tasks, configs and strategies that are not what they should be."""

from __future__ import annotations

from enum import Enum

from cano import JoinConfig, JoinStrategy, KeyValueStore, Limit, Node, Task, TaskConfig, WaitStrategy, Workflow, task


class State(Enum):
    """The states."""

    START = 1
    END = 2


class NoRun(Task[State]):
    """Does nothing."""


class OneArgument(Task[State]):
    """Takes no store."""

    async def run(self) -> State:  # E: override
        """Do it."""
        return State.END


class TwoPhases(Node[State, str, int]):
    """Has no end."""

    async def prep(self, store: KeyValueStore) -> int:  # E: override
        """Gives something else than exec takes."""
        return 1

    async def exec(self, prepared: int) -> int:  # E: override
        """Takes something else than it is given."""
        return prepared

    async def exec_fallback(self, prepared: str, error: str) -> int:  # E: override
        """Takes an error for a string."""
        return 1


NoRun()  # E: abstract
TwoPhases()  # E: abstract
NoRun(3)  # E: abstract, arg-type


@task  # E: arg-type
async def no_store() -> State:
    """Takes no store."""
    return State.END


@task(config=3)  # E: call-overload, untyped-decorator
async def wrong_config(store: KeyValueStore) -> State:
    """Has a number for a config."""
    return State.END


class NoDelay:
    """No strategy."""


class WrongDelay:
    """A strategy that wants to know less."""

    def delay(self, attempt: int) -> float:
        """Wait."""
        return attempt


class AsyncDelay:
    """A strategy that is to be awaited."""

    async def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Wait."""
        return 1.0


class Fine:
    """A strategy, but a class is none."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Wait."""
        return 1.0


TaskConfig(retry=3)  # E: arg-type
TaskConfig(retry=NoDelay())  # E: arg-type
TaskConfig(retry=WrongDelay())  # E: arg-type
TaskConfig(retry=AsyncDelay())  # E: arg-type
TaskConfig(retry=Fine)  # E: arg-type
TaskConfig(retry=Fine())
TaskConfig(timeout="1")  # E: arg-type
TaskConfig(retries=3)  # E: call-arg
TaskConfig().timeout = 3  # E: misc

Workflow()  # E: call-arg
Workflow(State.START, version=2)  # E: arg-type
Workflow(State.START, default_config="exponential")  # E: arg-type
Workflow(State.START).register(State.START, lambda store: State.END, config={"timeout": 3})  # E: arg-type
Workflow(State.START).register_split(State.START, [], "all")  # E: arg-type
JoinConfig(JoinStrategy.all)  # E: call-arg, arg-type
JoinStrategy.quorum("two")  # E: arg-type
JoinStrategy.percentage()  # E: call-arg
WaitStrategy.duration("1 s")  # E: arg-type
Limit("two")  # E: arg-type
