"""The wait of a run, as it is kept beside the run's data: in its history, and after its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cano import RunRecord, RunStatus, Wait

from cano_durability.failures import corrupt
from cano_durability.keys import RETRY, WAIT
from cano_durability.values import Values


class KeptWait(NamedTuple):
    """A wait, as the task asked for it.

    Attributes:
        wait: the wait; its `until` does not depend on the run's deadline.
        timeout: its timeout in seconds, or None.
    """

    wait: Wait
    timeout: float | None = None

    def packed(self) -> list[Any]:
        """Return the values that a record keeps."""
        *wait, own = self.wait
        return [*wait, self.timeout, *([own] if own else ())]  # an earlier version kept no `own`

    def begun_at(self, now: float) -> KeptWait:
        """Return the wait with a timeout that begins at `now`."""
        return self if self.timeout is None else self._replace(wait=self.wait._replace(until=now + self.timeout))

    def before(self, due: float | None) -> Wait:
        """Return the wait that ends at the run's deadline at the latest."""
        until = min((at for at in (self.wait.until, due) if at is not None), default=None)
        return self.wait._replace(until=until)


def kept_wait(values: Values, record: RunRecord, own: Mapping[str, Any]) -> KeptWait | None:
    """Return the wait that is kept in `own`, which is that of the run or of a moment in its history; None if none is.

    Raises:
        SerializationError: it cannot be read.
    """
    if (packed := values.own(WAIT, own, record.run_id)) is None:
        return None
    try:
        then, signal, until, on_timeout, timeout, *is_own = packed
        return KeptWait(Wait(then, signal, until, on_timeout, *is_own), timeout)
    except (TypeError, ValueError) as error:
        raise corrupt(record, f"its wait cannot be read: {error!r}") from error


def older_wait(record: RunRecord, due: float | None) -> KeptWait | None:
    """Return the wait of a run that an earlier version parked, which kept none beside the data; otherwise None."""
    wait = record.wait
    if record.status is not RunStatus.PARKED or wait is None or WAIT in record.own or RETRY in record.own:
        return None
    return KeptWait(wait._replace(until=None) if wait.until == due else wait)
