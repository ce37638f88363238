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
    """Return a `RayExecutor` for `ray://host:port` or `ray://local?workers=N`, else None."""
    scheme, _, rest = url.partition("://")
    if scheme != "ray":
        return None
    address = rest.partition("?")[0].strip("/")
    if not address:
        raise ConfigurationError("the URL names no cluster; write ray://host:6379, or ray://local?workers=N")
    options = OPTIONS.read(url)
    if address != "local" and options:
        raise ConfigurationError(f"the URL has the option 'workers', which only ray://local has, not {address}")
    if address != "local" and not address.rpartition(":")[2].isdigit():
        raise ConfigurationError(f"the URL names no port of the head; write ray://{address}:6379")
    from cano_ray.executor import RayExecutor  # late: most kernels have none

    return RayExecutor(None, **options) if address == "local" else RayExecutor(address)
