"""Ends a test's server and removes its folder, even if the tests are killed before they can do so themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = """
read -r _
[ ! -e "$1/pid" ] || kill -s "$2" "$(cat "$1/pid")"
until rm -rf "$1"; do sleep 0.05; done  # a server that is ending may still write
"""


class Guard:
    """A shell that waits until this process ends or calls `end`, and then cleans up.

    It reads from a pipe that only this process can write to. The operating system closes the pipe with the process.

    Attributes:
        pid: the process id of the shell.
    """

    def __init__(self, folder: Path, signal: str) -> None:
        """Watch over the server in `folder`.

        Args:
            folder: its folder, which is removed in the end.
            signal: the signal that ends the server at once, such as `QUIT`.
        """
        self._file = folder / "pid"
        self._shell = subprocess.Popen(
            ["sh", "-c", SCRIPT, "guard", str(folder), signal],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True,  # Ctrl-C is not for it
        )  # fmt: skip
        self.pid = self._shell.pid

    def started(self, pid: int) -> None:
        """Note that the server runs, with this process id."""
        self._file.write_text(str(pid))

    def stopped(self) -> None:
        """Note that the server no longer runs."""
        self._file.unlink(missing_ok=True)

    def end(self) -> None:
        """End the server if it still runs, and remove the folder."""
        self._shell.communicate()
