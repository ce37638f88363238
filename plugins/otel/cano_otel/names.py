"""All names of spans, attributes and metrics. OpenTelemetry defines those that begin with "cicd." or "error.".

The README lists them in a table; a test compares the two.
"""

from __future__ import annotations

SCOPE = "cano_otel"
"""The name of the tracer and of the meter."""

# spans
RUN = "RUN"
"""A run's span is named `RUN <workflow>`, by OpenTelemetry's convention for pipeline runs."""
STEP = "step"
BRANCH = "branch"
ATTEMPT = "attempt"
FALLBACK = "exec_fallback"
CALL = "call"
PHASES = ("prep", "exec", "post")

# attributes
ACTION = "cicd.pipeline.action.name"
WORKFLOW = "cicd.pipeline.name"
RUN_ID = "cicd.pipeline.run.id"
RUN_STATE = "cicd.pipeline.run.state"
RESULT = "cicd.pipeline.result"
TASK = "cicd.pipeline.task.name"
TASK_RUN_ID = "cicd.pipeline.task.run.id"
TASK_RESULT = "cicd.pipeline.task.run.result"
ERROR_TYPE = "error.type"
VERSION = "cano.workflow.version"
PARENT_ID = "cano.run.parent_id"
RESUMED = "cano.run.resumed"
STATUS = "cano.run.status"
STEPS = "cano.run.steps"
FINAL_STATE = "cano.run.state"
WAIT_SIGNAL = "cano.wait.signal"
WAIT_CHILD = "cano.wait.child"
WAIT_UNTIL = "cano.wait.until"
STATE = "cano.step.state"
NEXT_STATE = "cano.step.next_state"
SEQ = "cano.step.seq"
BRANCH_NAME = "cano.step.branch"
WORKER = "cicd.worker.id"
NUMBER = "cano.attempt.number"
DELAY = "cano.attempt.retry_delay"
PHASE = "cano.node.phase"
LINK = "cano.link"
SCHEDULE = "cano.schedule.id"
OUTCOME = "cano.schedule.outcome"
REASON = "cano.schedule.reason"
OBSERVER = "cano.observer"

# values
EXECUTING = "executing"
SUCCESS, FAILURE, TIMEOUT, CANCELLATION = "success", "failure", "timeout", "cancellation"
EARLIER, CALLER = "earlier", "caller"
"""The target of a link: the run's earlier segment, or the span that was current where it was started or resumed."""

# metrics
RUNS_ACTIVE = "cicd.pipeline.run.active"
RUN_DURATION = "cicd.pipeline.run.duration"
RUN_ERRORS = "cicd.pipeline.run.errors"
RUNS_STARTED = "cano.run.started"
RUNS_FINISHED = "cano.run.finished"
RUNS_PARKED = "cano.run.parked"
RUNS_LATE = "cano.run.late"
STEP_DURATION = "cano.step.duration"
ATTEMPTS = "cano.step.attempts"
RETRIES = "cano.step.retries"
COMMIT_DURATION = "cano.commit.duration"
LATENESS = "cano.schedule.lateness"
SKIPPED = "cano.schedule.skipped"
OBSERVER_ERRORS = "cano.observer.errors"
