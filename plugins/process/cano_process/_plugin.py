"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import ConfigurationError, Executor, hookimpl

CANO_API_VERSION = 2


@hookimpl
def cano_open_executor(url: str) -> Executor | None:
    """Return a `ProcessExecutor` for `process://?workers=N`, else None."""
    scheme, _, rest = url.partition(":")
    if scheme != "process":
        return None
    if rest.partition("?")[0].strip("/"):
        raise ConfigurationError(f"{url!r} names a host or path; write process://?workers=N")
    from cano_remote.urls import WORKERS  # late: most kernels have no executor

    from cano_process.executor import ProcessExecutor

    return ProcessExecutor(**WORKERS.read(url))
