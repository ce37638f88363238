"""Who holds a run's lease, and whether that process is known to be dead: then nobody need wait for the lease's end."""

from __future__ import annotations

import os
import socket
import uuid
import zlib

from cano.records import RunRecord


def new_holder() -> str:
    """A name for one kernel of this process, as `host:pid@place:random`. The place is empty where there is no /proc."""
    return f"{socket.gethostname()}:{os.getpid()}@{_place()}:{uuid.uuid4().hex[:12]}"


def is_held(record: RunRecord, now: float) -> bool:
    """Whether somebody drives the run at `now`, wall-clock seconds, as far as can be told from here.

    That is so until the lease has ended, unless its holder is seen to be dead: a process that ran on this machine.
    """
    holder, expires = record.holder, record.expires
    return holder is not None and expires is not None and expires >= now and not is_dead(holder)


def is_dead(holder: str) -> bool:
    """Whether the process of a holder was one of this machine, and is no more. A stopped one may wake: it is alive."""
    name, _, place = holder.rpartition(":")[0].partition("@")
    pid = name.rpartition(":")[2]
    if not place or place != _place() or not pid.isdecimal():
        return False  # who knows
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")  # killed, and not yet waited for
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _place() -> str:
    """What tells this machine since its last start, and our view of its processes, from every other; or nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read()
        return f"{zlib.crc32(boot + os.readlink('/proc/self/ns/pid').encode()):08x}"
    except OSError:
        return ""
