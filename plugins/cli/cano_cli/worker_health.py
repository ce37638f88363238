"""The health and the metrics of a worker, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

PATIENCE = 5.0
"""Seconds that a client has to send its request."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The type of the text format of Prometheus."""
REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HealthServer:
    """Serves `/healthz` and `/metrics`.

    Args:
        health: returns why the worker takes no more runs, or "".
        metrics: returns the metrics in the text format of Prometheus.
    """

    def __init__(self, health: Callable[[], str], metrics: Callable[[], Awaitable[str]]) -> None:
        self._health = health
        self._metrics = metrics
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> str:
        """Listen, and return the URL. Raises OSError if the address is not free."""
        self._server = await asyncio.start_server(self._answer, host, port)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
                status, body = await self._page(method, target.partition("?")[0])
                content = body.encode()
                fields = f"Content-Type: {TEXT}\r\nContent-Length: {len(content)}\r\nConnection: close"
                writer.write(f"HTTP/1.1 {status} {REASONS[status]}\r\n{fields}\r\n\r\n".encode())
                if method != "HEAD":
                    writer.write(content)
                await writer.drain()
        finally:
            writer.close()

    async def _page(self, method: str, path: str) -> tuple[int, str]:
        if method not in ("GET", "HEAD"):
            return 405, "only GET is allowed\n"
        if path == "/healthz":
            problem = self._health()
            return (503, f"{problem}\n") if problem else (200, "ok\n")
        return (200, await self._metrics()) if path == "/metrics" else (404, "see /healthz and /metrics\n")


def gauge(name: str, help: str, values: Mapping[str, int] | int, label: str = "") -> str:
    """Return a gauge in the text format of Prometheus; a mapping has its values by the value of `label`."""
    return _metric("gauge", name, help, values, label)


def counter(name: str, help: str, values: Mapping[str, int] | int, label: str = "") -> str:
    """Return a counter, as `gauge` does a gauge."""
    return _metric("counter", name, help, values, label)


def _metric(kind: str, name: str, help: str, values: Mapping[str, int] | int, label: str) -> str:
    samples = {name: values} if isinstance(values, int) else {
        f'{name}{{{label}="{_escaped(key)}"}}': value for key, value in values.items()
    }  # fmt: skip
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n" + "".join(f"{key} {n}\n" for key, n in samples.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
