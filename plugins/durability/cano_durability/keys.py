"""The keys under which a run's record holds this plugin's and the engine's own values, beside the run's data."""

from __future__ import annotations

PREFIX = "\0"  # no key of a run's data begins with it
RETRY = PREFIX + "retry"  # number of failed attempts of the present step, and when it began
PHASES = PREFIX + "phases"  # results of the finished phases of the present step's node
ERROR = PREFIX + "error"  # the error whose `on_exhausted` led to the present state
WAIT = PREFIX + "wait"  # the wait that the last transition began; also begins the ids of signals to one wait
PAYLOAD = PREFIX + "payload"  # the payload that led to the present state, if the run did not wait for it
OUTCOME = PREFIX + "outcome"  # the outcome of the split that led to the present state
DEFINITION = PREFIX + "definition"  # version and fingerprint that the run has migrated to
CARRIED = PREFIX + "carried"  # texts of observers
DEADLINE = PREFIX + "deadline"  # the run's timeout in seconds, and its deadline in wall-clock seconds
ORIGIN = PREFIX + "origin"  # of a fork: the run and the transition that it was forked from
TAKEOVERS = PREFIX + "takeovers"  # number of processes that were killed, or lost their lease, in the present step
AWAITED = PREFIX + "awaited"  # of a child: its parent may be parked while it is, so its end is announced to that
CANCEL = PREFIX + "cancel"  # name of the signal that requests the cancellation of a run
WITH_PARENT = PREFIX + "cancel with parent"  # how the ids of those begin that request it because the parent ends

LASTING = frozenset({DEFINITION, CARRIED, DEADLINE, ORIGIN, AWAITED})
"""Values that stay for the life of the run. All others are dropped with the next transition."""
