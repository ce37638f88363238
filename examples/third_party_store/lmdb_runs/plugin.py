"""What Cano finds through the entry point. It imports no lmdb: that waits until somebody opens a store."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from cano import Capabilities, ConfigurationError, StoreBackend, hookimpl
from cano.options import Options

CANO_API_VERSION = 2
PROMISES = Capabilities(durable=True, encoded=True)
OPTIONS = Options()


@hookimpl
def cano_open_store(url: str) -> StoreBackend | None:
    """The runs in the file that a URL such as `lmdb:///runs.mdb` names; None for the URLs of others.

    Raises:
        ConfigurationError: the URL names no file, or has an option.
    """
    scheme, separator, rest = url.partition("://")
    if scheme != "lmdb" or not separator:
        return None
    path = rest.partition("?")[0]
    if not path.startswith("/") or path == "/":
        raise ConfigurationError(
            "the URL names no LMDB file: write lmdb:///runs.mdb for one in the current folder, "
            "lmdb:////var/lib/runs.mdb for an absolute path"
        )
    OPTIONS.read(url)
    from lmdb_runs.store import LmdbStore

    return LmdbStore(unquote(path[1:]), PROMISES)


@hookimpl
def cano_stores() -> Mapping[str, Capabilities]:
    """The schemes that this plugin opens, for `cano plugins`."""
    return {"lmdb": PROMISES}
