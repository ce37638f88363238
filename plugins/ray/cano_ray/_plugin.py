"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import ConfigurationError, Executor, hookimpl

CANO_API_VERSION = 2


@hookimpl
def cano_open_executor(url: str) -> Executor | None:
    """Return a `RayExecutor` for `ray://host:port` or `ray://local?workers=N`, else None."""
    if not url.startswith("ray://"):
        return None
    from cano_remote.urls import cluster_of  # late: most kernels have no executor

    from cano_ray.executor import RayExecutor

    address, options = cluster_of(url, "cluster", 6379)
    if address is not None and not address.rpartition(":")[2].isdigit():
        raise ConfigurationError(f"the URL names no port of the head; write ray://{address}:6379")
    return RayExecutor(address, **options)
