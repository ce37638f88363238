"""`LmdbStore`: runs in an LMDB file. Each method is one transaction: all of it happens, or none."""

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
from lmdb_runs.rows import COUNTER, DATA, HISTORY, RUN, SEEN, UNFINISHED, WAITING

if TYPE_CHECKING:
    from lmdb_runs.file import Transaction


class LmdbStore(LmdbFile):
    """Keeps runs in the LMDB file at `path`. What its methods promise is said in `cano.StoreBackend`."""

    def __init__(self, path: str, capabilities: Capabilities) -> None:
        super().__init__(path)
        self.capabilities = capabilities

    @writes
    def create(self, txn: Transaction, run: RunRecord) -> RunRecord:
        if (there := _load(txn, run.run_id)) is not None:
            return there
        _put_run(txn, run)
        _put_data(txn, run.run_id, run.data)
        _put_line(txn, run.run_id, Transition(run.seq, run.state, run.status, run.created, run.data))
        return run._replace(data=dict(run.data))

    @reads
    def load(self, txn: Transaction, run_id: str) -> RunRecord | None:
        return _load(txn, run_id)

    @writes
    def commit(self, txn: Transaction, commit: Commit) -> None:
        run_id, run = commit.run_id, _run(txn, commit.run_id)
        if run is None or (run.token, run.seq) != (commit.token, commit.expected_seq):
            said = f"the commit with token {commit.token} at seq {commit.expected_seq}"
            found = "it is gone" if run is None else f"it has token {run.token} and seq {run.seq}"
            raise ConflictError(f"the run {run_id!r} refuses {said}: {found}", run_id=run_id)
        run = run._replace(
            state=commit.state, seq=commit.seq, status=commit.status, error=commit.error, wait=commit.wait,
            payload=commit.payload, updated=commit.at,
        )  # fmt: skip
        _put_run(txn, run._replace(holder=None, expires=None) if commit.release else run)
        for key in commit.removed:
            txn.delete(rows.key(DATA, run_id, key))
        _put_data(txn, run_id, commit.changed)
        for signal_id in commit.consumed:
            if (seen := txn.get(rows.key(SEEN, run_id, signal_id))) is not None:
                number, _, _ = rows.unpack(run_id, seen)[0]
                txn.delete(rows.key(WAITING, run_id, number))
        if commit.seq != commit.expected_seq:
            line = Transition(commit.seq, commit.state, commit.status, commit.at, commit.changed, commit.removed)
            _put_line(txn, run_id, line)

    @reads
    def history(self, txn: Transaction, run_id: str) -> Sequence[Transition]:
        found = []
        for _, row in _scan(txn, rows.key(HISTORY, run_id)):
            (seq, state, status, at, keys, removed), values = rows.unpack(run_id, row)
            found.append(Transition(seq, state, RunStatus(status), at, dict(zip(keys, values, strict=True)), removed))
        return found

    @writes
    def delete(self, txn: Transaction, run_id: str) -> bool:
        there = txn.delete(rows.key(RUN, run_id))
        for table in (UNFINISHED, DATA, HISTORY, WAITING, SEEN):
            for key in [key for key, _ in _scan(txn, rows.key(table, run_id))]:
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
            run = _run(txn, run_id)
            if run is None or (run.holder, run.token) != (holder, token):
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
        seen = rows.key(SEEN, run_id, signal.id)
        if txn.get(seen) is None:
            number = _number(txn)
            txn.put(seen, rows.pack([number, run_id, signal.id]))
            txn.put(rows.key(WAITING, run_id, number), rows.pack([signal.id, signal.name], signal.payload))

    @reads
    def take_signal(self, txn: Transaction, run_id: str, name: str) -> Signal | None:
        return _take(txn, run_id, name)

    @reads
    def signals(self, txn: Transaction, run_id: str) -> Signals:
        waiting = list(_signals(txn, run_id))
        seen = [signal_id for _, _, signal_id in _seen(txn, rows.key(SEEN, run_id))]
        there = {signal.id for signal in waiting}
        return Signals(waiting, [signal_id for signal_id in seen if signal_id not in there])

    @reads
    def recipients(self, txn: Transaction) -> Sequence[str]:
        found = {run_id for _, run_id, _ in _seen(txn, SEEN)}
        return [run_id for run_id in found if txn.get(rows.key(RUN, run_id)) is None]

    @reads
    def runs(self, txn: Transaction, filter: RunFilter) -> Sequence[RunRecord]:
        found = [
            run
            for run in (_listed(key, row) for key, row in _scan(txn, RUN))
            if filter.workflow in (None, run.workflow)
            and filter.status in (None, run.status)
            and filter.parent in (None, run.parent)
        ]
        return sorted(found, key=lambda run: -run.created)[: filter.limit]

    @reads
    def ready(self, txn: Transaction, now: float) -> Sequence[RunRecord]:
        keys = [RUN + key[1:] for key, _ in _scan(txn, UNFINISHED)]
        return [run for key in keys if _is_ready(txn, run := _listed(key, txn.get(key, b"")), now)]


# inside a transaction


def _run(txn: Transaction, run_id: str) -> RunRecord | None:
    row = txn.get(rows.key(RUN, run_id))
    return None if row is None else rows.unpack_run(run_id, row)


def _load(txn: Transaction, run_id: str) -> RunRecord | None:
    if (run := _run(txn, run_id)) is None:
        return None
    found = [rows.unpack(run_id, row) for _, row in _scan(txn, rows.key(DATA, run_id))]
    found.sort(key=lambda row: row[0])  # by number: the order in which the keys were first set
    return run._replace(data={key: value for (_, key), (value,) in found})


def _listed(key: bytes, row: bytes) -> RunRecord:
    """A run for a list, in which a damaged one must not hide the others: it shows what is wrong as its error."""
    run_id = rows.run_id(key)
    try:
        return rows.unpack_run(run_id, row)
    except SerializationError as error:
        said: dict[str, Any] = {"type": "SerializationError", "message": str(error)}
        return RunRecord(run_id, "", "", "", "", status=RunStatus.INTERRUPTED, error=said)


def _is_held(run: RunRecord, now: float) -> bool:
    return run.expires is not None and run.expires >= now


def _is_ready(txn: Transaction, run: RunRecord, now: float) -> bool:
    wait = run.wait
    if _is_held(run, now) or run.status is not RunStatus.PARKED or wait is None:
        return run.status is RunStatus.RUNNING and not _is_held(run, now)
    due = wait.until is not None and wait.until <= now
    return due or (wait.signal is not None and _take(txn, run.run_id, wait.signal) is not None)


def _signals(txn: Transaction, run_id: str) -> Iterator[Signal]:
    """Those that no commit has consumed, in the order in which they were put."""
    for _, row in _scan(txn, rows.key(WAITING, run_id)):
        (signal_id, name), (payload,) = rows.unpack(run_id, row)
        yield Signal(signal_id, name, payload)


def _seen(txn: Transaction, prefix: bytes) -> Iterator[tuple[int, str, str]]:
    """Number, run and id of all signals, consumed or not, whose keys begin with `prefix`."""
    for key, row in _scan(txn, prefix):
        number, run_id, signal_id = rows.unpack(rows.run_id(key), row)[0]
        yield number, run_id, signal_id


def _take(txn: Transaction, run_id: str, name: str) -> Signal | None:
    return next((signal for signal in _signals(txn, run_id) if signal.name == name), None)


def _put_run(txn: Transaction, run: RunRecord) -> None:
    txn.put(rows.key(RUN, run.run_id), rows.pack_run(run))
    if run.status.finished:
        txn.delete(rows.key(UNFINISHED, run.run_id))
    else:
        txn.put(rows.key(UNFINISHED, run.run_id), b"")


def _put_data(txn: Transaction, run_id: str, changed: Mapping[str, Any]) -> None:
    for name, value in changed.items():
        where = rows.key(DATA, run_id, name)
        old = txn.get(where)
        number = _number(txn) if old is None else rows.unpack(run_id, old)[0][0]
        txn.put(where, rows.pack([number, name], value))


def _put_line(txn: Transaction, run_id: str, line: Transition) -> None:
    head = [line.seq, line.state, line.status.value, line.at, list(line.changed), list(line.removed)]
    txn.put(rows.key(HISTORY, run_id, line.seq), rows.pack(head, *line.changed.values()))


def _number(txn: Transaction) -> int:
    """The next number. None is given out twice."""
    number = int.from_bytes(txn.get(COUNTER, b"")) + 1
    txn.put(COUNTER, number.to_bytes(8))
    return number


def _scan(txn: Transaction, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows whose keys begin with `prefix`, in order."""
    cursor = txn.cursor()
    if cursor.set_range(prefix):
        for key, row in cursor:
            if not key.startswith(prefix):
                break
            yield key, row
