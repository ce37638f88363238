"""Creating schedules from arguments. All errors in a definition are raised here, before it is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

from cano import ConfigurationError, Kernel, RetryStrategy, WaitStrategy, Workflow
from cano.options import refuse, whole

from cano_scheduler import _backoff, _check
from cano_scheduler._batch import batch_of
from cano_scheduler._cron import Cron
from cano_scheduler._daylight import Fold, Gap, ZonedCron
from cano_scheduler._decide import QUEUE_LIMIT
from cano_scheduler._schedule import Misfire, Overlap, Schedule
from cano_scheduler._times import SECOND
from cano_scheduler._triggers import CronTrigger, EveryTrigger, Trigger

Seconds = float | timedelta


KEPT = 100
"""How many missed times misfire="all" keeps by default."""


class Options(TypedDict, total=False):
    """The options of every schedule. `Scheduler` documents them."""

    data: Mapping[str, Any] | None
    instances: int | Sequence[Mapping[str, Any]] | None
    wait: WaitStrategy | None
    jitter: Seconds
    grace: Seconds
    misfire: Misfire
    limit: int
    overlap: Overlap | None
    overlap_limit: int | None
    timeout: Seconds | None
    backoff: Seconds | RetryStrategy | None
    trip_after: int | None
    replace: bool


def cron_trigger(expr: str, tz: str | ZoneInfo, gap: Gap | None, fold: Fold | None) -> CronTrigger:
    """Create the trigger of a cron expression in a zone.

    Raises:
        ConfigurationError: an argument is invalid, or the expression never matches.
    """
    cron, zone = Cron(expr), _check.zone(tz)
    # as in classic cron: expressions for elapsed time ignore clock changes; times of day fire once a day
    gap = ("skip" if cron.elastic else "next") if gap is None else _check.choice("gap", gap, ("next", "skip", "shift"))
    fold = ("both" if cron.elastic else "first") if fold is None else _check.choice("fold", fold, _FOLDS)
    zoned = ZonedCron(cron, zone, gap, fold)
    zoned.next(0)
    return CronTrigger(zoned)


_FOLDS = ("first", "last", "both")


def every_trigger(interval: Seconds, first: Seconds | datetime | None) -> EveryTrigger:
    """Create the trigger of an interval. Raises ConfigurationError."""
    width = _check.duration("interval", interval)
    if isinstance(first, datetime):
        return EveryTrigger(width, _check.aware("first", first), True)
    return EveryTrigger(width, 0 if first is None else _check.duration("first", first, least=0), False)


def make(
    kernel: Kernel,
    id: str,
    flow: Workflow[Any],
    trigger: Trigger,
    default_grace: Seconds,
    *,
    data: Mapping[str, Any] | None = None,
    instances: int | Sequence[Mapping[str, Any]] | None = None,
    wait: WaitStrategy | None = None,
    jitter: Seconds = 0,
    grace: Seconds | None = None,
    misfire: Misfire = "once",
    limit: int | None = None,
    overlap: Overlap | None = None,
    overlap_limit: int | None = None,
    timeout: Seconds | None = None,
    backoff: Seconds | RetryStrategy | None = None,
    trip_after: int | None = None,
) -> Schedule:
    """Create a schedule.

    Raises:
        ConfigurationError: an option is invalid; the message names it.
        ValidationError: the workflow is invalid.
    """
    if not isinstance(flow, Workflow):
        refuse("flow", flow, "a Workflow")
    kernel.bind(flow)
    batch = _instances(instances)
    if batch is None and wait is not None:
        raise ConfigurationError("wait= requires instances=, the number of runs to wait for")
    if wait is not None and not isinstance(wait, WaitStrategy):
        refuse("wait", wait, "a WaitStrategy, such as WaitStrategy.quota(2)")
    if batch is not None:
        wait = WaitStrategy.forever() if wait is None else wait
        if wait.successes is not None and wait.successes > len(batch):
            raise ConfigurationError(
                f"wait: a quota of {wait.successes} cannot be reached with {len(batch)} instance(s); lower the quota"
            )
        flow = batch_of(id, flow, batch, wait, kernel)
        kernel.bind(flow)
    misfire = _check.choice("misfire", misfire, ("once", "skip", "all"))
    if limit is None:
        limit = KEPT
    elif whole("limit", limit, 1) and misfire != "all":
        raise ConfigurationError(
            f"limit= is how many missed times misfire='all' keeps; it has no effect with misfire={misfire!r}. To limit "
            "how many runs there are at once, use overlap_limit=, or Workflow(limit=) for the runs of a batch"
        )
    if overlap is None:
        overlap = "queue" if misfire == "all" else "skip"
    _check.choice("overlap", overlap, ("skip", "queue", "replace", "allow"))
    if misfire == "all" and overlap in ("skip", "replace"):
        raise ConfigurationError(
            f"misfire='all' starts all missed times at once, of which overlap={overlap!r} lets one run; "
            "use overlap='queue' or 'allow'"
        )
    if overlap_limit is not None:
        whole("overlap_limit", overlap_limit, 1)
    elif overlap == "queue":
        overlap_limit = max(QUEUE_LIMIT, limit if misfire == "all" else 0)  # all kept times find room in the queue
    return Schedule(
        id=id,
        flow=flow,
        trigger=trigger,
        data=_check.data("data", data),
        batch=None if batch is None else len(batch),
        jitter=_check.duration("jitter", jitter, least=0),
        grace=_check.duration("grace", default_grace if grace is None else grace, least=0),
        misfire=misfire,
        limit=limit,
        overlap=overlap,
        overlap_limit=overlap_limit,
        timeout=None if timeout is None else _check.duration("timeout", timeout) / SECOND,
        backoff=_backoff.strategy(backoff),
        trip_after=None if trip_after is None else whole("trip_after", trip_after, 1),
    )


def _instances(given: Any) -> list[Mapping[str, Any]] | None:
    if given is None:
        return None
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        found = [_check.data(f"instances[{number}]", own) or {} for number, own in enumerate(given)]
        if found:
            return list(found)
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given <= 1_000_000:
        return [{} for _ in range(given)]
    refuse("instances", given, "a number of runs from 1 to 1,000,000, or a list with the data of each")
