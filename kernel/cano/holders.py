"""Names of lease holders, and the check whether a holder's process is dead.

Other kernels can claim a dead holder's runs at once, before the lease expires.
"""

from __future__ import annotations

import os
import socket
import uuid
import zlib

from cano.records import RunRecord, RunStatus


def new_holder() -> str:
    """Return a name for one kernel of this process: `host:pid@namespace:random`. Without /proc, namespace is empty."""
    return f"{socket.gethostname()}:{os.getpid()}@{_pid_namespace()}:{uuid.uuid4().hex[:12]}"


def is_held(record: RunRecord, now: float) -> bool:
    """Return whether a process holds the run's lease at `now`, in wall-clock seconds.

    The lease is not held once it has expired, or if the holder ran on this machine and is dead.
    """
    holder, expires = record.holder, record.expires
    return holder is not None and expires is not None and expires >= now and lives(holder) is not False


def is_queued(record: RunRecord) -> bool:
    """Return whether a run was submitted, and has not begun. One with a delay is parked until then."""
    unbegun = record.seq == 0 and (record.token == 0 or record.updated < record.created)
    return unbegun and record.holder is None and record.status is RunStatus.RUNNING


def lives(holder: str) -> bool | None:
    """Return whether the holder's process is alive. A stopped process is; None if it did not run on this machine."""
    state = _state_of(holder)
    # in state Z or X the process was killed, and its parent has not collected it yet
    return None if state is None else state not in (b"", b"Z", b"X")


def is_stopped(holder: str) -> bool:
    """Return whether the holder's process is alive on this machine, but stopped, for example by SIGSTOP."""
    return _state_of(holder) in (b"T", b"t")


def _state_of(holder: str) -> bytes | None:
    """Return the state of the holder's process: a letter of /proc; empty if there is no such process.

    None if it did not run on this machine; `?` if it is alive and /proc hides it.
    """
    name, _, namespace = holder.rpartition(":")[0].partition("@")
    pid = name.rpartition(":")[2]
    if not namespace or namespace != _pid_namespace() or not pid.isdecimal():
        return None
    try:
        os.kill(int(pid), 0)  # it finds processes of other users, which /proc may hide
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0]
    except ProcessLookupError:
        return b""
    except (OSError, OverflowError):
        return b"?"


def _pid_namespace() -> str:
    """Return a hash of this machine's boot id and PID namespace; empty without /proc.

    Two processes with the same hash can check each other's PIDs.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read()
        return f"{zlib.crc32(boot + os.readlink('/proc/self/ns/pid').encode()):08x}"
    except OSError:
        return ""
