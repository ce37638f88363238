"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import Executor, hookimpl

CANO_API_VERSION = 2


@hookimpl
def cano_open_executor(url: str) -> Executor | None:
    """Return a `DaskExecutor` for `dask://host:port` or `dask://local?workers=N`, else None."""
    if not url.startswith("dask://"):
        return None
    from cano_remote.urls import cluster_of  # late: most kernels have no executor

    from cano_dask.executor import DaskExecutor

    address, options = cluster_of(url, "scheduler", 8786)
    return DaskExecutor(None if address is None else f"tcp://{address}", **options)
