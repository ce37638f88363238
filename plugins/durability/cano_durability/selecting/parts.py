"""The filters that are asked for in place of one with `in (…)` or `!=`, for which stores have no index."""

from __future__ import annotations

from cano import Condition, RunFilter, RunStatus

MOST_PARTS = 32
"""The most counts, or lists, that a store is asked for in place of one."""
BY_LEASE = RunStatus.RUNNING, RunStatus.INTERRUPTED, RunStatus.QUEUED
"""The statuses of which a run's lease says which it has."""


def statuses_of(filter: RunFilter) -> set[RunStatus]:
    """Return the statuses that a filter allows."""
    found = set(RunStatus) if filter.status is None else {filter.status}
    for name, (sign, value) in filter.others:
        if name == "status":
            found = found.intersection(value) if sign == "in" else found - {value}
    return found


def by_lease(filter: RunFilter) -> bool:
    """Return whether a filter allows only statuses of which a run's lease says which it has."""
    return statuses_of(filter).issubset(BY_LEASE)


def split(filter: RunFilter) -> list[RunFilter]:
    """Return filters whose runs are those of a filter, each without `in (…)`, as far as they are not too many."""
    statuses = statuses_of(filter)
    parts = [filter]
    if filter.status is None and len(statuses) < len(RunStatus):
        rest = tuple(each for each in filter.others if each[0] != "status")
        parts = [filter._replace(status=each, others=rest) for each in statuses.difference(BY_LEASE)]
        leased = statuses.intersection(BY_LEASE)
        if len(leased) == 1:
            parts.append(filter._replace(status=leased.pop(), others=rest))
        elif leased:
            parts.append(filter._replace(others=(*rest, ("status", Condition("in", tuple(leased))))))
    for name, (sign, value) in filter.others:
        if sign != "in" or name == "status" or getattr(filter, name) is not None:
            continue
        values, made = dict.fromkeys(value), list[RunFilter]()
        for part in parts:
            rest = tuple(each for each in part.others if each != (name, Condition(sign, value)))
            made += [part._replace(others=rest, **{name: each}) for each in values]
        if len(made) <= MOST_PARTS:
            parts = made
    return parts


def counted_parts(filter: RunFilter) -> list[tuple[int, RunFilter]] | None:
    """Return filters that stores can count, each with the factor by which its count adds to that of this filter.

    None if its other conditions are on fields that a filter cannot have, or are too many.
    """
    parts = [(1, filter._replace(others=(), limit=None))]
    for name, (sign, value) in filter.others:
        if name == "error" or (name, sign) == ("parent", "!=") or len(parts) > MOST_PARTS:
            return None  # a run may have two classes of errors, or no parent
        values, made = list(dict.fromkeys(value if sign == "in" else (value,))), list[tuple[int, RunFilter]]()
        for factor, part in parts:
            known = getattr(part, name)
            if known is None:
                made += [(factor, part)] if sign == "!=" else []
                made += [(-factor if sign == "!=" else factor, part._replace(**{name: each})) for each in values]
            elif (known in values) == (sign != "!="):
                made.append((factor, part))
        parts = made
    return parts if len(parts) <= MOST_PARTS else None
