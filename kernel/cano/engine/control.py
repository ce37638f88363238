"""The engine's control-flow exceptions. Tasks never raise them, so no task's own error is mistaken for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cano.engine.binding import BoundState
    from cano.errors import TransitionError
    from cano.model.waiting import Pause


class Refused(Exception):
    """A task's result is not a valid next state; `error` is the error to raise."""

    def __init__(self, error: TransitionError) -> None:
        self.error = error


class Paused(Exception):
    """A task returned a `Pause`: its run is to be parked.

    Attributes:
        pause: the value that the task returned.
        then, on_timeout: the possible next states; `on_timeout` is None if the pause names none.
    """

    def __init__(self, pause: Pause, then: BoundState, on_timeout: BoundState | None) -> None:
        self.pause = pause
        self.then = then
        self.on_timeout = on_timeout


class Parked(BaseException):
    """The run is parked in the store. Its step loop ends here; the run does not."""


class ParkedForChild(Parked):
    """The run is parked until a child of its present step has ended. The step then begins again."""


class StoreFailed(BaseException):
    """The store failed in the middle of a step, or a child killed too many processes. The task is not retried.

    The run ends with `error`. After an error of the store, it is interrupted and can be resumed later.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error
