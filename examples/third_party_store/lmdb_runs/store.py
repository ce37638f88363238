"""`LmdbStore`: runs in an LMDB file. Each method is one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cano import (
    Capabilities,
    Commit,
    ConflictError,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    Signals,
    Transition,
)

from lmdb_runs import rows
from lmdb_runs.file import LmdbFile, reads, writes
from lmdb_runs.migration import is_newest, migrate
from lmdb_runs.rows import (
    COUNTER,
    DATA,
    HISTORY,
    OF_RUNS,
    OWN,
    OWN_SEEN,
    RUN,
    SEEN,
    SEEN_TO,
    UNFINISHED,
    WAITING,
    Data,
    Seen,
)

if TYPE_CHECKING:
    from lmdb_runs.file import Transaction


class LmdbStore(LmdbFile):
    """Keeps runs in the LMDB file at `path`. See `cano.StoreBackend` for the methods."""

    def __init__(self, path: str, capabilities: Capabilities) -> None:
        super().__init__(path)
        self.capabilities = capabilities

    async def open(self) -> None:
        await super().open()
        if not await self.do(is_newest, writes=False):
            await self.do(migrate, writes=True)

    @writes
    def create(self, txn: Transaction, run: RunRecord) -> RunRecord:
        if (there := _load(txn, run.run_id)) is not None:
            return there
        _put_run(txn, run._replace(data={}, own={}))
        _put_status(txn, run)
        _put_data(txn, run.run_id, DATA, run.data)
        _put_data(txn, run.run_id, OWN, run.own)
        _put_line(txn, run.run_id, Transition(run.seq, run.state, run.status, run.created, run.data, own=run.own))
        return run._replace(data=dict(run.data), own=dict(run.own))

    @reads
    def load(self, txn: Transaction, run_id: str) -> RunRecord | None:
        return _load(txn, run_id)

    @writes
    def commit(self, txn: Transaction, commit: Commit) -> None:
        run_id, old = commit.run_id, _run(txn, commit.run_id)
        if old is None or (old.token, old.seq) != (commit.token, commit.expected_seq):
            given = f"it has token {commit.token} and seq {commit.expected_seq}"
            found = "the run does not exist" if old is None else f"the run has token {old.token} and seq {old.seq}"
            raise ConflictError(f"a commit to the run {run_id!r} is stale: {given}, but {found}", run_id=run_id)
        holder, expires = (None, None) if commit.release else (old.holder, old.expires)
        run = old._replace(
            state=commit.state, seq=commit.seq, status=commit.status, error=commit.error, wait=commit.wait,
            payload=commit.payload, updated=commit.at, holder=holder, expires=expires,
        )  # fmt: skip
        _put_run(txn, run)
        if run.status is not old.status:
            _put_status(txn, run)
        for table, changed, removed in ((DATA, commit.changed, commit.removed), (OWN, commit.own, commit.own_removed)):
            for key in removed:
                txn.delete(rows.key(run_id, table, key))
            _put_data(txn, run_id, table, changed)
        for signal in commit.consumed_keys:
            if (seen := txn.get(rows.seen(run_id, signal))) is not None:
                txn.delete(rows.key(run_id, WAITING, rows.unpack(run_id, seen, Seen).number))
        if commit.seq != commit.expected_seq:
            line = Transition(
                commit.seq, commit.state, commit.status, commit.at, commit.changed, commit.removed, own=commit.own,
                own_removed=commit.own_removed,
            )  # fmt: skip
            _put_line(txn, run_id, line)

    @reads
    def history(self, txn: Transaction, run_id: str) -> Sequence[Transition]:
        return [rows.unpack(run_id, row, Transition) for _, row in _scan(txn, rows.key(run_id, HISTORY))]

    @writes
    def delete(self, txn: Transaction, run_id: str) -> bool:
        there = txn.delete(rows.key(run_id, RUN))
        for key in [rows.unfinished(run_id), *(key for key, _ in _scan(txn, rows.key(run_id)))]:
            txn.delete(key)
        return there

    @writes
    def claim(self, txn: Transaction, run_id: str, holder: str, now: float, expires: float) -> int | None:
        run = _run(txn, run_id)
        if run is None or _is_held(run, now):
            return None
        _put_run(txn, run._replace(holder=holder, expires=expires, token=run.token + 1))
        return run.token + 1

    @writes
    def renew(self, txn: Transaction, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        lost = []
        for run_id, token in tokens.items():
            run = _listed(rows.key(run_id), txn.get(rows.key(run_id, RUN), b""))  # a corrupt one is lost
            if (run.holder, run.token) != (holder, token):
                lost.append(run_id)
            else:
                _put_run(txn, run._replace(expires=expires))
        return lost

    @writes
    def release(self, txn: Transaction, run_id: str, token: int) -> None:
        run = _run(txn, run_id)
        if run is not None and run.token == token:
            _put_run(txn, run._replace(holder=None, expires=None))

    @writes
    def put_signal(self, txn: Transaction, run_id: str, signal: Signal) -> None:
        seen = rows.seen(run_id, signal.key)
        if txn.get(seen) is None:
            number = _number(txn)
            txn.put(seen, rows.pack(Seen(number, run_id, signal.id, signal.to)))
            txn.put(rows.key(run_id, WAITING, number), rows.pack(signal, [signal.payload]))

    @reads
    def next_signal(self, txn: Transaction, run_id: str, name: str, own: bool = False) -> Signal | None:
        return _take(txn, run_id, name, own)

    @reads
    def signals(self, txn: Transaction, run_id: str) -> Signals:
        waiting = list(_signals(txn, run_id))
        sent = [
            (table == OWN_SEEN, seen.to, seen.signal_id)
            for table in (SEEN, OWN_SEEN, SEEN_TO)
            for seen in (rows.unpack(run_id, row, Seen) for _, row in _scan(txn, rows.key(run_id, table)))
        ]
        there = {signal.key for signal in waiting}
        return Signals.of(waiting, [key for key in sent if key not in there])

    @reads
    def missing_recipients(self, txn: Transaction) -> Sequence[str]:
        early = [key for key, row in _records(txn) if row is None]  # they have only signals
        seen = [next(row for table in (SEEN, OWN_SEEN, SEEN_TO) for _, row in _scan(txn, key + table)) for key in early]
        return [rows.unpack(rows.run_id(key), row, Seen).run_id for key, row in zip(early, seen, strict=True)]

    @reads
    def runs(self, txn: Transaction, filter: RunFilter) -> Sequence[RunRecord]:
        found = [
            run
            for run in (_listed(key, row) for key, row in _records(txn) if row is not None)
            if filter.workflow in (None, run.workflow)
            and filter.status in (None, run.status)
            and filter.parent in (None, run.parent)
        ]
        return sorted(found, key=lambda run: -run.created)[: filter.limit]

    @reads
    def ready(self, txn: Transaction, now: float) -> Sequence[RunRecord]:
        keys = [rows.run_of(key) for key, _ in _scan(txn, UNFINISHED)]
        return [run for key in keys if _is_ready(txn, run := _listed(key, txn.get(key + RUN, b"")), now)]


# inside a transaction


def _run(txn: Transaction, run_id: str) -> RunRecord | None:
    row = txn.get(rows.key(run_id, RUN))
    return None if row is None else rows.unpack(run_id, row, RunRecord)


def _load(txn: Transaction, run_id: str) -> RunRecord | None:
    if (run := _run(txn, run_id)) is None:
        return None
    return run._replace(data=_values(txn, run_id, DATA), own=_values(txn, run_id, OWN))


def _values(txn: Transaction, run_id: str, table: bytes) -> dict[str, Any]:
    """Return the values of a table, in the order in which their keys were first set."""
    found = [rows.unpack(run_id, row, Data) for _, row in _scan(txn, rows.key(run_id, table))]
    return {key: value for _, key, value in sorted(found)}


def _listed(key: bytes, row: bytes) -> RunRecord:
    """Return the run in a row of a list. A corrupt run carries the problem as its error, and does not hide others."""
    run_id = rows.run_id(key)
    try:
        return rows.unpack(run_id, row, RunRecord)
    except SerializationError as error:
        said: dict[str, Any] = {"type": "SerializationError", "message": str(error)}
        return RunRecord(run_id, "", "", "", "", status=RunStatus.INTERRUPTED, error=said)


def _is_held(run: RunRecord, now: float) -> bool:
    return run.holder is not None and run.expires is not None and run.expires >= now


def _is_ready(txn: Transaction, run: RunRecord, now: float) -> bool:
    if _is_held(run, now):
        return False
    wait = run.wait
    if run.status is not RunStatus.PARKED or wait is None:
        return run.status is RunStatus.RUNNING
    due = wait.until is not None and wait.until <= now
    return due or (wait.signal is not None and _take(txn, run.run_id, wait.signal, wait.own) is not None)


def _signals(txn: Transaction, run_id: str) -> Iterator[Signal]:
    """Yield the unconsumed signals, oldest first."""
    for _, row in _scan(txn, rows.key(run_id, WAITING)):
        yield rows.unpack(run_id, row, Signal)


def _take(txn: Transaction, run_id: str, name: str, own: bool) -> Signal | None:
    return next((signal for signal in _signals(txn, run_id) if (signal.name, signal.own) == (name, own)), None)


def _put_run(txn: Transaction, run: RunRecord) -> None:
    txn.put(rows.key(run.run_id, RUN), rows.pack(run, [run.payload]))


def _put_status(txn: Transaction, run: RunRecord) -> None:
    if run.status.finished:
        txn.delete(rows.unfinished(run.run_id))
    else:
        txn.put(rows.unfinished(run.run_id), b"")


def _put_data(txn: Transaction, run_id: str, table: bytes, changed: Mapping[str, Any]) -> None:
    for name, value in changed.items():
        where = rows.key(run_id, table, name)
        old = txn.get(where)
        number = _number(txn) if old is None else rows.unpack(run_id, old, Data).number
        txn.put(where, rows.pack(Data(number, name, value), [value]))


def _put_line(txn: Transaction, run_id: str, line: Transition) -> None:
    txn.put(rows.key(run_id, HISTORY, line.seq), rows.pack(line))


def _number(txn: Transaction) -> int:
    """Return the next number. Each is given out once."""
    number = int.from_bytes(txn.get(COUNTER, b"")) + 1
    txn.put(COUNTER, number.to_bytes(8))
    return number


def _records(txn: Transaction) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the key prefix and the record of each run that has rows."""
    cursor = txn.cursor()
    there = cursor.set_range(OF_RUNS)
    while there and cursor.key().startswith(OF_RUNS):
        run = rows.run_of(cursor.key())
        yield run, txn.get(run + RUN)
        there = cursor.set_range(run + b"\xff")  # after its last row


def _scan(txn: Transaction, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rows whose keys begin with `prefix`, in order."""
    cursor = txn.cursor()
    if cursor.set_range(prefix):
        for key, row in cursor:
            if not key.startswith(prefix):
                break
            yield key, row
