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
    """Return a `DaskExecutor` for `dask://host:port` or `dask://local?workers=N`, else None."""
    scheme, _, rest = url.partition("://")
    if scheme != "dask":
        return None
    address = rest.partition("?")[0].strip("/")
    if not address:
        raise ConfigurationError("the URL names no scheduler; write dask://host:8786, or dask://local?workers=N")
    options = OPTIONS.read(url)
    if address != "local" and options:
        raise ConfigurationError(f"the URL has the option 'workers', which only dask://local has, not {address}")
    from cano_dask.executor import DaskExecutor  # late: most kernels have none

    return DaskExecutor(None, **options) if address == "local" else DaskExecutor(f"tcp://{address}")
