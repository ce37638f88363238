"""The names that a kernel is given: of the person or service on whose behalf it acts, and of its namespace."""

from __future__ import annotations

import os

from cano.checks import refuse, text

VARIABLE = "CANO_ACTOR"
LONGEST = 512
"""The most bytes of a name, in UTF-8."""


def checked_actor(actor: str | None) -> str | None:
    """Return `actor`, or the value of CANO_ACTOR; None if neither is set.

    Raises:
        ConfigurationError: it is empty, too long, or contains NUL.
    """
    name = "actor"
    if actor is None and (actor := os.environ.get(VARIABLE) or None) is not None:
        name = VARIABLE
    if actor is not None and len(text(name, actor).encode()) > LONGEST:
        refuse(name, actor, f"a string of at most {LONGEST} bytes")
    return actor


def process_owner() -> str:
    """Return the user and the host of this process, such as "ada@build-7"."""
    import getpass  # late: importing both takes longer than opening a kernel
    import platform

    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # no variable names the user, and the system does not know it
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{platform.node() or 'unknown'}".encode(errors="replace")[:LONGEST].decode(errors="ignore")


def checked_namespace(namespace: str | None) -> str | None:
    """Return `namespace`. Raises ConfigurationError if it cannot name one.

    Characters that are not printable are refused, so that no message or terminal shows one name as another.
    """
    if namespace is None:
        return None
    if not isinstance(namespace, str) or not namespace.isprintable() or not 0 < len(namespace.encode()) <= LONGEST:
        refuse("namespace", namespace, f"printable text of 1 to {LONGEST} bytes, or None for the store itself")
    return namespace
