"""Migrates the rows of an earlier version."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from cano import SerializationError, Signal, Transition

from lmdb_runs import rows
from lmdb_runs.rows import DATA, HISTORY, OF_RUNS, OWN, OWN_SEEN, SEEN, VERSION, WAITING, Data, Seen

if TYPE_CHECKING:
    from lmdb_runs.file import Transaction

NEWEST = b"3"
_ADDRESSED = re.compile(r"\0wait ([0-9]{1,18}) (.*)", re.DOTALL)


def is_newest(txn: Transaction) -> bool:
    """Return whether there is nothing to migrate."""
    return txn.get(VERSION) == NEWEST


def migrate(txn: Transaction) -> None:
    """Move the engine's own values and signals to tables of their own: in version 1, their names began with NUL.

    Up to version 2, the ids of signals to one wait had its seq.
    """
    if is_newest(txn):
        return
    txn.put(VERSION, NEWEST)
    cursor = txn.cursor()
    for key, row in list(cursor) if cursor.set_range(OF_RUNS) else []:
        if key.startswith(OF_RUNS):
            with suppress(SerializationError):  # a corrupt row stays, for `load` to report it
                _move(txn, rows.run_of(key), key, row)


def _move(txn: Transaction, run: bytes, key: bytes, row: bytes) -> None:
    run_id, table = rows.run_id(key), key[len(run) : len(run) + 1]
    if table == DATA and (data := rows.unpack(run_id, row, Data)).key.startswith("\0"):
        txn.delete(key)
        txn.put(run + OWN + rows.short(data.key[1:]), rows.pack(data._replace(key=data.key[1:])))
    elif table == HISTORY:
        line = rows.unpack(run_id, row, Transition)
        own = {name[1:]: value for name, value in line.changed.items() if name.startswith("\0")}
        own_removed = [name[1:] for name in line.removed if name.startswith("\0")]
        changed = {name: value for name, value in line.changed.items() if not name.startswith("\0")}
        removed = [name for name in line.removed if not name.startswith("\0")]
        if own or own_removed:
            new = line._replace(changed=changed, removed=removed, own=own, own_removed=own_removed)
            txn.put(key, rows.pack(new))
    elif table == SEEN and (match := _ADDRESSED.fullmatch(rows.unpack(run_id, row, Seen).signal_id)):
        txn.delete(key)
        moved = rows.unpack(run_id, row, Seen)._replace(signal_id=match[2], to=int(match[1]))
        txn.put(rows.seen(moved.run_id, (False, moved.to, moved.signal_id)), rows.pack(moved))
    elif table == SEEN and (seen := rows.unpack(run_id, row, Seen)).signal_id.startswith("\0cancel"):
        txn.delete(key)
        new_id = seen.signal_id[1:]
        txn.put(run + OWN_SEEN + rows.short(new_id), rows.pack(seen._replace(signal_id=new_id)))
    elif table == WAITING and (signal := rows.unpack(run_id, row, Signal)).name.startswith("\0"):
        txn.put(key, rows.pack(signal._replace(id=signal.id[1:], name=signal.name[1:], own=True)))
    elif table == WAITING and not signal.own and (match := _ADDRESSED.fullmatch(signal.id)):
        txn.put(key, rows.pack(signal._replace(id=match[2], to=int(match[1]))))
