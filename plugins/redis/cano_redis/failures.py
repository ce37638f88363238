"""Redis's errors, as Cano's: each says which store, and what can be done. None ever has a password in it."""

from __future__ import annotations

from cano import SerializationError, StoreError, StoreUnavailableError
from redis.exceptions import ResponseError

TRY_AGAIN = ("BUSY", "LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS")
"""Codes of refusals that pass: nothing was done, and the same may succeed a moment later."""

_READ_ONLY = "it is a replica, which takes no writes; name the server that it follows"
_CLUSTER = "another node of the cluster has the keys of this prefix; name that one (cano-redis follows no redirections)"
_REMEDIES = {
    "BUSY": "a script of somebody's has held the server up for longer than retry_for; SCRIPT KILL ends it",
    "LOADING": "it took longer than retry_for to read its data; wait until it is up, or raise retry_for",
    "READONLY": _READ_ONLY,
    "MASTERDOWN": _READ_ONLY,
    "MOVED": _CLUSTER,
    "ASK": _CLUSTER,
    "CLUSTERDOWN": "its cluster is down; see CLUSTER INFO",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write wants",
    "OOM": "its memory is full; raise maxmemory, or delete runs",
    "MISCONF": "it cannot write to its disk, and takes no writes until it can; look at its log and its disk",
    "NOAUTH": "it wants a password; write redis://:password@host, or redis://user:password@host",
    "WRONGPASS": "it does not know this user and password",
    "NOPERM": "this user may not do that there; the README of cano-redis says what it needs",
}
_WITHIN = (*_REMEDIES, "WRONGTYPE")


def code(error: Exception) -> str:
    """The code of a refusal of the server's. Older servers put that of a script behind one of their own."""
    known = getattr(error, "status_code", None)
    kind = str(known or str(error).partition(" ")[0])
    if kind != "ERR":
        return kind
    return next((each for each in _WITHIN if f"-{each} " in str(error) or f" {each} " in str(error)), kind)


def refusal(error: ResponseError, place: str, run_id: str | None) -> StoreError:
    """What the caller gets to see of a refusal of the server's."""
    kind = code(error)
    odd = kind == "ERR" and ("user_script" in str(error) or "not an integer" in str(error))
    if run_id is not None and (odd or kind == "WRONGTYPE"):
        return unreadable(run_id, f"its keys hold something else ({error})")
    remedy = _REMEDIES.get(kind)
    what = f"the store {place} cannot be used: {remedy or error}"
    return StoreUnavailableError(f"{what} (Redis says: {kind} {error})" if remedy else what, run_id=run_id)


def lost(error: Exception, place: str, why: str, run_id: str | None) -> StoreUnavailableError:
    """The error for a server that could not be reached, or went away."""
    return StoreUnavailableError(f"the store {place} cannot be reached{why}: {error}", run_id=run_id)


def unreadable(run_id: str, what: object, *, key: str | None = None) -> SerializationError:
    """The error for what is stored of a run, and cannot be read back."""
    damaged = SerializationError(f"the run {run_id!r} cannot be read from the store: {what}", key=key)
    damaged.run_id = run_id
    return damaged
