"""Sends one HTTP request with a time limit. Redirects are not followed, and no body of a response is read."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from cano import CanoError, Clock, ConfigurationError

LOCAL = ("localhost", "127.0.0.1", "::1")


class WebhookError(CanoError):
    """The receiver of a webhook did not accept a message, in all attempts, or says that it is gone.

    Attributes:
        status: the last HTTP status, or None without a response.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Address(NamedTuple):
    """The address of a receiver.

    Attributes:
        secure: whether it is `https`.
        host, port: where it is.
        path: path and query.
    """

    secure: bool
    host: str
    port: int | None
    path: str

    def __str__(self) -> str:
        return self.host  # a path may contain a token


def read_address(url: object, allow_http: bool) -> Address:
    """Return the parts of a URL. Raises ConfigurationError, which does not show the URL: it may contain a token."""
    problem = "url must be an http(s) URL with a host, and without a user and a fragment"
    if not isinstance(url, str) or not url.isprintable() or " " in url or not url.isascii():
        raise ConfigurationError(f"{problem}; encode special characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(problem) from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or parts.fragment:
        raise ConfigurationError(problem)
    if parts.scheme == "http" and not allow_http and host not in LOCAL:
        raise ConfigurationError(f"url must be https, since {host} is not this machine; allow_http=True allows http")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme == "https", host, port, path)


class Answer(NamedTuple):
    """The answer of a receiver: the HTTP status, and the seconds that it asks to wait, or None."""

    status: int
    retry_after: int | None


async def post(address: Address, body: bytes, headers: Mapping[str, str], seconds: float, clock: Clock) -> Answer:
    """Send a request, and return the answer.

    A thread makes it, since the standard library's client blocks. At the time limit its connection is cut.

    Raises:
        OSError: the receiver cannot be reached, or not within `seconds`.
        http.client.HTTPException: it does not speak HTTP.
    """
    kind = http.client.HTTPConnection
    if address.secure:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            address.host, address.port, timeout=seconds, context=ssl.create_default_context()
        )
    else:
        connection = kind(address.host, address.port, timeout=seconds)

    def send() -> Answer:
        try:
            connection.request("POST", address.path, body, dict(headers))
            response = connection.getresponse()
            after = response.getheader("retry-after", "")
            return Answer(response.status, int(after) if after.isdecimal() and len(after) < 7 else None)
        finally:
            connection.close()

    with getattr(clock, "hold", nullcontext)():  # virtual time must not pass meanwhile
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.to_thread(send)
        except TimeoutError:
            raise TimeoutError(f"no answer within {seconds:g} s") from None
        finally:
            if (sock := connection.sock) is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # a receiver that answers byte by byte must not keep the thread
