"""The service that streams answers: a client that is cut off, and a server that is killed, lose and repeat no word."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

QUESTION = "why so?"
ANSWER = f"You ask {QUESTION} Because a stream is a part of its run and every word has its place"


@contextmanager
def served(root: Path, folder: Path, pause: float) -> Iterator[int]:
    """Run the example as a server, and provide its port once it serves. It is killed after the block."""
    options = "--port", "0", "--pause", str(pause)
    command = [sys.executable, "-W", "error", str(root / "examples" / "token_stream.py"), *options]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stderr is not None
            lines: list[str] = []
            while not lines or not (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", lines[-1])):
                lines.append(server.stderr.readline())
                assert lines[-1], lines
            yield int(found[1])
        finally:
            server.kill()


class Client:
    """A client of an answer, as a browser is one: it knows the last event, and what is superseded."""

    def __init__(self, run: str) -> None:
        self._run = run
        self.ids: list[int] = []
        self.words: dict[int, str] = {}
        self.marks = 0

    def read(self, port: int, words: int | None = None) -> None:
        """Connect, read `words` words, or for None all to the end, and disconnect."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with closing(connection):
            headers = {"Last-Event-ID": str(self.ids[-1])} if self.ids else {}
            connection.request("GET", f"/answers/{self._run}", headers=headers)
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
            while words is None or words > 0:
                event: dict[str, str] = {}
                while (line := answer.readline().decode()) not in ("\n", ""):
                    name, _, value = line.rstrip("\n").partition(": ")
                    event[name] = value
                assert event, "the connection was closed before the end"
                if event["event"] == "end":
                    return
                self.ids.append(int(event["id"]))
                data = json.loads(event["data"])
                if event["event"] == "message":
                    self.words[self.ids[-1]] = data
                    words = None if words is None else words - 1
                else:
                    self.marks += 1
                    for first, last in data:
                        for offset in range(first, last + 1):
                            del self.words[offset]


def test_a_client_reconnects(root: Path, tmp_path: Path) -> None:
    """A client that is cut off twice, once by a kill of the server, gets each event once, and the whole answer."""
    with served(root, tmp_path, pause=0.4) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with closing(connection):
            connection.request("POST", "/answers", json.dumps(QUESTION))
            response = connection.getresponse()
            assert response.status == 201
            run = json.loads(response.read())["run"]
            for path, headers, status in (
                ("/answers/no", {}, 404), (f"/answers/{run}", {"Last-Event-ID": "-1"}, 400), ("/", {}, 200),
            ):  # fmt: skip
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                response.read()
                assert response.status == status
        client = Client(run)
        client.read(port, 3)
        client.read(port, 2)
        assert client.ids == [1, 2, 3, 4, 5]
    with served(root, tmp_path, pause=0) as port:
        client.read(port)
        client.read(port)
    assert client.ids == list(range(1, len(client.ids) + 1))
    assert client.marks == 1
    assert " ".join(client.words[offset] for offset in sorted(client.words)) == ANSWER
