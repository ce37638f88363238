"""How fast the machine's CPUs are at the moment: what several threads do is slow where one of them is."""

from __future__ import annotations

import os
import time


def speeds() -> str:
    """A line that says how fast each CPU is beside the fastest one; empty where that cannot be found out."""
    if not hasattr(os, "sched_setaffinity"):
        return ""
    allowed = os.sched_getaffinity(0)
    seconds = {}
    try:
        for cpu in sorted(allowed):
            os.sched_setaffinity(0, {cpu})
            seconds[cpu] = min(_work() for _ in range(20))
    finally:
        os.sched_setaffinity(0, allowed)
    fastest = min(seconds.values())
    return "CPUs: " + ", ".join(f"{cpu} at {fastest / spent:.0%}" for cpu, spent in seconds.items())


def _work() -> float:
    begin = time.perf_counter()
    sorted(map(str, range(1000)))
    return time.perf_counter() - begin
