"""The plugin: its entry point leads here. It imports no lmdb; a store does that when it is opened."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

from cano import Capabilities, ConfigurationError, LazyBackend, StoreBackend, hookimpl
from cano.options import Options

if TYPE_CHECKING:
    from lmdb_runs.store import LmdbStore

CANO_API_VERSION = 2
PROMISES = Capabilities(durable=True, encoded=True)
OPTIONS = Options()


@hookimpl
def cano_open_store(url: str) -> StoreBackend | None:
    """Return a store for a URL such as `lmdb:///runs.mdb`, and None for URLs of other schemes.

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
    return LmdbBackend(unquote(path[1:]))


@hookimpl
def cano_stores() -> Mapping[str, Capabilities]:
    """Return the schemes of this plugin with their capabilities."""
    return {"lmdb": PROMISES}


class LmdbBackend(LazyBackend["LmdbStore"]):
    """A store that keeps runs in the LMDB file at `path`. `open` loads the `LmdbStore` that does the work."""

    def __init__(self, path: str) -> None:
        super().__init__(path, PROMISES)
        self._path = path

    def _load(self) -> Callable[[], LmdbStore]:
        from lmdb_runs.store import LmdbStore

        return partial(LmdbStore, self._path, PROMISES)

    async def exists(self) -> bool:
        """Return whether the file exists."""
        return await asyncio.to_thread(os.path.exists, self._path)
