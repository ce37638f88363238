"""The plugin: its entry point leads here."""

from __future__ import annotations

from functools import partial

from cano import ConfigurationError, Executor, hookimpl
from cano.options import Options, whole

CANO_API_VERSION = 2
MOST = 1024
"""Workers that a URL may ask for: more is likely a mistake."""
OPTIONS = Options(workers=partial(whole, least=1, most=MOST))


@hookimpl
def cano_open_executor(url: str) -> Executor | None:
    """Return a `ProcessExecutor` for `process://?workers=N`, else None."""
    scheme, _, rest = url.partition(":")
    if scheme != "process":
        return None
    if rest.partition("?")[0].strip("/"):
        raise ConfigurationError(f"{url!r} names a host or path; write process://?workers=N")
    from cano_process.executor import ProcessExecutor  # late: most kernels have none

    return ProcessExecutor(**OPTIONS.read(url))
