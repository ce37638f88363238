"""The scheduler's examples."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

OutputOf = Callable[..., list[str]]


def test_several_workflows_share_a_scheduler(output_of: OutputOf, tmp_path: Path) -> None:
    """Runs start by the clock, by events and by hand, on the given folder."""
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("one two three")
    lines = output_of("schedule_several", tmp_path)
    times = lines.count(f"count: 2 files in {tmp_path.name}")
    assert times >= 1
    assert lines[-4:] == [
        f"count: every, idle, {times} runs, 0 failed",
        "nightly: cron, idle, 0 runs, 0 failed",
        "index: on, idle, 2 runs, 0 failed",
        "reindex: manual, idle, 1 runs, 0 failed",
    ]


def test_a_time_zone_is_followed(output_of: OutputOf) -> None:
    """Each policy has the effect that its name says, in spring and in autumn."""
    lines = output_of("schedule_time_zone")
    autumn = lines.index("01 November 2026")
    assert sorted(lines[1:autumn]) == [
        "  01:30, both: Sun 01:30 EST",
        "  01:30, classic: Sun 01:30 EST",
        "  02:30, classic: Sun 03:00 EDT",
        "  02:30, shifted: Sun 03:30 EDT",
    ]
    assert sorted(line for line in lines[autumn + 1 :] if "01:30," in line) == [
        "  01:30, both: Sun 01:30 EDT",
        "  01:30, both: Sun 01:30 EST",
        "  01:30, classic: Sun 01:30 EDT",
    ]


def test_a_shutdown_is_graceful(root: Path) -> None:
    """On SIGTERM short runs end, long ones are cancelled, and none fails."""
    command = [sys.executable, "-W", "error", str(root / "examples" / "schedule_shutdown.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line == "copying the large disk\n":
                process.send_signal(signal.SIGTERM)
        assert (process.wait(60), process.stderr.read()) == (0, "")
    assert {"copied the small disk", "cancelled: the large disk"} <= set(lines)
    assert lines[-2:] == ["small: 1 run, 0 cancelled, 0 failed", "large: 1 run, 1 cancelled, 0 failed"]


def test_a_batch_is_content_with_its_quota(output_of: OutputOf) -> None:
    """Two of four answers are enough, and the failure is counted."""
    lines = output_of("schedule_batch")
    assert set(lines[:-1]) == {"near answered about index.html", "far answered about index.html"}
    number = lines[:-1].count("near answered about index.html")
    assert number >= 1
    assert lines[-1] == f"{number} batches, {number} failed runs, 0 failed batches in a row"


def test_a_failing_flow_is_left_alone(output_of: OutputOf) -> None:
    """The schedule backs off, trips, and continues after a successful trigger."""
    lines = output_of("schedule_backoff")
    assert lines[0].startswith("tripped after 4 failures: TaskError: task 'ping' failed: ConnectionError")
    kinds = [line.split(": ")[1] for line in lines[1:]]
    assert kinds.count("fired (time)") == 8
    assert kinds.count("fired (trigger)") == 1
    assert {"backoff (time)", "tripped (time)"} <= set(kinds)
    assert kinds[-1] == "fired (time)"
