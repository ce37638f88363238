"""The most memory that a process has used."""

PEAK = "int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
"""An expression with it, in KiB, for a program. `ru_maxrss` begins with the memory of the process that started it."""
