"""The names of this plugin's and the engine's own values and signals, which a run's record holds beside its data."""

from __future__ import annotations

RETRY = "retry"  # number of failed attempts of the present step, and when it began
PHASES = "phases"  # results of the finished phases of the present step's node
PROGRESS = "progress"  # number of the present step, and the progress that it has reported
TRACEBACK = "traceback"  # of the error that the run failed with, as text
ERROR = "error"  # the error whose `on_exhausted` led to the present state
WAIT = "wait"  # the wait that the last transition began
PAYLOAD = "payload"  # the payload that led to the present state, if the run did not wait for it
OUTCOME = "outcome"  # the outcome of the split that led to the present state
DEFINITION = "definition"  # version and fingerprint that the run has migrated to
CARRIED = "carried"  # texts of observers
DEADLINE = "deadline"  # the run's timeout in seconds, and its deadline in wall-clock seconds
ORIGIN = "origin"  # of a fork: the run and the transition that it was forked from
TAKEOVERS = "takeovers"  # number of processes that were killed, or lost their lease, in the present step
ATTRIBUTES = "attributes"  # values of the search attributes, and the names of those that steps have set
FIRST = "first"  # digest of the data that the run began with, if the caller chose its id and there is no history
BY = "by"  # who started the run, if it is the tick of a schedule, say
IMPORT = "import"  # of a run that was imported: the digest of its file, and the id that it had
OF = "of"  # of a child: the time when its parent was created, since a later run may have the parent's id
BATCH = "batch"  # of a batch: how far it has come
STREAMS = "streams"  # names of the channels that its steps emit to, each with the last offset that counts
AWAITED = "awaited"  # of a child: its parent may be parked while it is, so its end is announced to that
LATE = "late"  # when the run was found to be late, and the expected seconds
VISIT = "visit"  # of the present state: its transition, when it began, when it was found to be late, expected seconds
CAPPED = "capped"  # the `until` of the wait in the record, which ends when the run is late, and of the real wait
NOTICES = "notices"  # ids of the notices of the run's last commits, if any plugin announces them
CANCEL = "cancel"  # name of the signal that requests the cancellation of a run
WITH_PARENT = "cancel with parent"  # how the ids of those begin that request it because the parent ends

MARK = "cano.store"
"""The id and the workflow of an encrypted store's own record. No run has this id in any store, so that each can be
encrypted later."""

IMPORTING = "cano import "
"""How the names of holders begin that are importing a run. Nothing else reads such a run."""
IMPORTED = "cano imported"
"""The holder of an imported run that has not ended, so that no process executes it before it is resumed."""

LASTING = frozenset(
    {DEFINITION, CARRIED, DEADLINE, ORIGIN, AWAITED, BATCH, FIRST, BY, IMPORT, OF, ATTRIBUTES, LATE, NOTICES, STREAMS}
)
"""Values that stay for the life of the run. All others are dropped with the next transition."""
