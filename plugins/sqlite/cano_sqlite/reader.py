"""The reading thread's work. Queries that arrive together share one read transaction."""

from __future__ import annotations

import sqlite3
from concurrent.futures import Future
from functools import partial

from cano_sqlite.connection import connect_for_reading, patiently, roll_back
from cano_sqlite.failures import translated
from cano_sqlite.settings import Settings
from cano_sqlite.worker import Desk


class Reader:
    """Does the queries."""

    writes = False

    def __init__(self, settings: Settings, ready: Future[None]) -> None:
        self._settings = settings
        self._ready = ready
        self._connection: sqlite3.Connection

    def open(self) -> None:
        """Connect after the writer has created the tables."""
        self._ready.result()
        self._connection = connect_for_reading(self._settings)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def failed(self, error: Exception, run_id: str | None) -> Exception:
        """Return the error that the caller gets."""
        return translated(error, self._settings.path, run_id)

    def carry_out(self, desk: Desk) -> None:
        """Do the waiting queries. Later ones get a new transaction, since they must see the commits before them."""
        connection = self._connection
        desk.deliver()
        jobs = desk.take()
        connection.execute("BEGIN")
        try:
            for job in jobs:
                try:
                    job.result = patiently(self._settings, partial(job.do, connection))
                except Exception as error:  # noqa: BLE001  # the caller gets it
                    job.error = self.failed(error, job.run_id)
        finally:
            roll_back(connection)
