"""Checks that a store keeps the promise that a call needs."""

from __future__ import annotations

from cano import ConfigurationError
from cano.engine.ports import Host

_LACKS = {
    "durable": "does not survive this process, so no worker could find a run that is submitted to it",
    "history": "keeps no history of its runs, so none can be shown, and no run can be forked",
    "retention": "keeps everything, so no run can be deleted",
    "attributes": "keeps no search attributes, so no run can be found by them",
    "orders": "lists the newest runs first only, since no index of it has another order",
    "connections": "stores nothing in transactions of other connections",
    "queues": "keeps one queue of submitted runs, without priorities and keys",
    "audit": "keeps no audit, so it does not know who acted on its runs",
}


def require(kernel: Host, promise: str) -> None:
    """Raise ConfigurationError unless the kernel's store makes a promise of `Capabilities`, such as `history`."""
    assert kernel.backend is not None
    if not getattr(kernel.backend.capabilities, promise):
        name = kernel.store_name
        raise ConfigurationError(f"the store {name} {_LACKS[promise]}; use one with {promise}, see `cano plugins`")
