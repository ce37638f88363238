"""A receiver of webhooks: a real HTTP server in a thread of the test's process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import queue
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Request(NamedTuple):
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The message's id."""
        return self.headers["webhook-id"]

    def is_signed_with(self, secret: str) -> bool:
        """Return whether one of the signatures is right, by code of its own."""
        key = base64.b64decode(secret.split("_", 1)[1])
        content = self.headers["webhook-id"] + "." + self.headers["webhook-timestamp"] + "." + self.body.decode()
        right = base64.b64encode(hmac.digest(key, content.encode(), hashlib.sha256)).decode()
        return any(hmac.compare_digest(each, f"v1,{right}") for each in self.headers["webhook-signature"].split(" "))


class Receiver:
    """What arrived, and what is answered.

    Attributes:
        url: where it is.
        answers: the answers to the next requests: a status with headers, or None for none; then 204.
        arrived: the requests, in order.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: deque[tuple[int, dict[str, str]] | None] = deque()
        self.arrived: queue.Queue[Request] = queue.Queue()
        self.closing = threading.Event()

    async def next(self) -> Request:
        """Wait for a request."""
        return await asyncio.to_thread(self.arrived.get, timeout=60)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Provide a receiver that listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = receiver.answers.popleft() if receiver.answers else (204, {})
            receiver.arrived.put(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            if answer is None:
                receiver.closing.wait(30)
                return
            self.send_response(answer[0])
            for name, value in answer[1].items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST  # noqa: N815  # the name is http.server's

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hooks?token=hidden")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
