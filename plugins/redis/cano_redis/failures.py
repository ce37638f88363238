"""Translates Redis's errors into Cano's. Each names the store and the remedy, and none contains a password."""

from __future__ import annotations

from cano import StoreError, StoreUnavailableError
from cano_msgspec.packing import unreadable
from redis.exceptions import ResponseError

TRY_AGAIN = ("BUSY", "LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS")
"""Codes of temporary refusals: nothing was done, and the same call may succeed later."""

_READ_ONLY = "it is a replica, which accepts no writes; name its primary server"
_CLUSTER = "another node of the cluster has the keys of this prefix; name that node (redirections are not followed)"
_REMEDIES = {
    "BUSY": "another script has blocked the server for longer than retry_for; end it with SCRIPT KILL",
    "LOADING": "it took longer than retry_for to load its data; wait until it has, or raise retry_for",
    "READONLY": _READ_ONLY,
    "MASTERDOWN": _READ_ONLY,
    "MOVED": _CLUSTER,
    "ASK": _CLUSTER,
    "CLUSTERDOWN": "its cluster is down; see CLUSTER INFO",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write; start replicas, or lower that setting",
    "OOM": "its memory is full; raise maxmemory, or delete runs",
    "MISCONF": "it cannot write to its disk, and accepts no writes until it can; check its log and its disk",
    "NOAUTH": "it requires a password; write redis://:password@host, or redis://user:password@host",
    "WRONGPASS": "it refuses this user and password; correct them",
    "NOPERM": "this user lacks a permission; the README of cano-redis lists those that it needs",
}
_WITHIN = (*_REMEDIES, "WRONGTYPE")


def code(error: Exception) -> str:
    """Return the code of an error. Older servers put a script's code behind one of their own."""
    known = getattr(error, "status_code", None)
    kind = str(known or str(error).partition(" ")[0])
    if kind != "ERR":
        return kind
    return next((each for each in _WITHIN if f"-{each} " in str(error) or f" {each} " in str(error)), kind)


def refusal(error: ResponseError, place: str, run_id: str | None) -> StoreError:
    """Return the error that the caller gets for a refusal."""
    kind = code(error)
    odd = kind == "ERR" and ("user_script" in str(error) or "not an integer" in str(error))
    if run_id is not None and (odd or kind == "WRONGTYPE"):
        return unreadable(run_id, f"one of its keys has another type or content ({error})")
    remedy = _REMEDIES.get(kind)
    what = f"the store {place} cannot be used: {remedy or error}"
    return StoreUnavailableError(f"{what} (Redis says: {kind} {error})" if remedy else what, run_id=run_id)


def lost(error: Exception, place: str, why: str, run_id: str | None) -> StoreUnavailableError:
    """Return the error for a server that cannot be reached."""
    return StoreUnavailableError(f"the store {place} cannot be reached{why}: {error}", run_id=run_id)
