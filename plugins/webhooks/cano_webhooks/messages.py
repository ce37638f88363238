"""The messages of webhooks: what receivers get to know of a run, which is nothing of its data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cano.engine.ports import Notice
from cano.redaction import redacted


def message_of(notice: Notice) -> dict[str, Any]:
    """Return the message for a notice, as JSON's types."""
    about: dict[str, Any] = {
        "run_id": notice.run_id,
        "workflow": notice.workflow,
        "state": notice.state,
        "status": notice.kind,
        "steps": notice.seq,
        "created": _time(notice.created),
    }
    if notice.late is not None:
        late = notice.late
        about["status"] = late.status.value
        about["late"] = {
            "what": "step" if late.step else "run",
            "within": late.within,
            "since": _time(late.since),
            "due": _time(late.due),
        }
    if (error := notice.error) is not None:
        about["error"] = {
            "type": str(error.get("type")),
            "message": redacted(str(error.get("message"))),
            "state": str(error.get("state")),
            "attempt": error.get("attempt"),
            "cause": None if error.get("cause") is None else redacted(str(error["cause"])),
        }
    if (wait := notice.wait) is not None:
        until = None if wait.until is None else _time(wait.until)
        about["wait"] = {"signal": wait.signal, "until": until, "then": wait.then}
    return {"type": f"run.{notice.kind}", "timestamp": _time(notice.at), "data": about}


def _time(seconds: float) -> str | float:
    """Return a time in ISO 8601, in UTC; or the seconds, if it is out of the calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return seconds
