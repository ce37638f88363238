"""No server outlives the tests that have started it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from tests.servers.{name} import start_{name}
server = start_{name}()
print(server.pid, server.guard.pid, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_killed_tests_leave_nothing(name: str) -> None:
    """When a process with a server is killed with SIGKILL, the server ends and its folder is removed."""
    tests = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(name=name)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with tests:
        assert tests.stdout is not None
        server, guard, folder = tests.stdout.readline().split()
        ends = [os.pidfd_open(int(pid)) for pid in (server, guard)]
        assert Path(folder).exists()
        tests.kill()

    for end in ends:
        assert select.select([end], [], [], 60)[0] == [end]
        os.close(end)
    assert not Path(folder).exists()
