"""Names of lease holders, and whether a holder's process is known to be dead: its lease then need not expire first."""

from __future__ import annotations

import os
import socket
import uuid
import zlib

from cano.records import RunRecord


def new_holder() -> str:
    """Return a name for one kernel of this process: `host:pid@place:random`. The place is empty without a /proc."""
    return f"{socket.gethostname()}:{os.getpid()}@{_place()}:{uuid.uuid4().hex[:12]}"


def is_held(record: RunRecord, now: float) -> bool:
    """Return whether a process holds the run at `now`, in wall-clock seconds.

    It does until its lease expires, unless it ran on this machine and is dead.
    """
    holder, expires = record.holder, record.expires
    return holder is not None and expires is not None and expires >= now and not is_dead(holder)


def is_dead(holder: str) -> bool:
    """Return whether the holder's process ran on this machine and is gone. A stopped process is alive."""
    name, _, place = holder.rpartition(":")[0].partition("@")
    pid = name.rpartition(":")[2]
    if not place or place != _place() or not pid.isdecimal():
        return False  # it cannot be told from here
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (
                b"Z",
                b"X",
            )  # killed, and its parent has not collected it yet
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _place() -> str:
    """A hash of this machine's boot id and PID namespace; empty without a /proc.

    Two processes with the same hash can check each other's PIDs.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read()
        return f"{zlib.crc32(boot + os.readlink('/proc/self/ns/pid').encode()):08x}"
    except OSError:
        return ""
