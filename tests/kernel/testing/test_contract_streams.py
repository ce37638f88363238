"""The contract of stores with streams: each of its clauses fails on a store that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cano import Commit, StreamChunk
from cano.testing.contract_streams import StreamClauses
from cano_memory import MemoryBackend

from tests.kernel.testing.test_contract import Methods, OnStore, broken

CLAUSES = sorted(name for name in dir(StreamClauses) if name.startswith("test_"))


class Streaming(MemoryBackend):
    """A store of bytes, which keeps streams."""

    def __init__(self) -> None:
        super().__init__(strict=True)


def without_chunks(store: Any, honest: Callable[..., Any], commit: Commit, audit: Any = None) -> Any:
    """Commit all but the chunks."""
    return honest(commit._replace(chunks=()), audit)


async def before_the_commit(store: Any, honest: Callable[..., Any], commit: Commit, audit: Any = None) -> Any:
    """Write the chunks first, whether or not the commit is refused."""
    store._add_chunks(commit.run_id, list(commit.chunks))
    return await honest(commit, audit)


async def as_transition(
    store: Any, honest: Callable[..., Any], run_id: str, token: int, chunks: Sequence[StreamChunk]
) -> None:
    """Note the time of the run, too."""
    await honest(run_id, token, chunks)
    store._runs[run_id] = store._runs[run_id]._replace(updated=0.0)


async def of_any_holder(
    store: Any, honest: Callable[..., Any], run_id: str, token: int, chunks: Sequence[StreamChunk]
) -> None:
    """Write for every token."""
    run = store._runs.get(run_id)
    await honest(run_id, token if run is None else run.token, chunks)


async def one_at_a_time(
    store: Any, honest: Callable[..., Any], run_id: str, token: int, chunks: Sequence[StreamChunk]
) -> None:
    """Write the first chunk only."""
    await honest(run_id, token, chunks[:1])


async def twice(store: Any, honest: Callable[..., Any], run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
    """Replace a chunk that is there."""
    await honest(run_id, token, chunks)
    for chunk in chunks:
        known = store._streams[run_id][chunk.channel]
        known[:] = [chunk if each.last == chunk.last else each for each in known]


async def from_the_start(
    store: Any, honest: Callable[..., Any], run_id: str, channel: str, after: int, limit: int
) -> Any:
    """Chunks from the first one, whatever the offset."""
    return await honest(run_id, channel, 0, limit)


async def all_of_them(store: Any, honest: Callable[..., Any], run_id: str, channel: str, after: int, limit: int) -> Any:
    """Chunks without a limit."""
    return await honest(run_id, channel, after, 1000)


async def that_begin(store: Any, honest: Callable[..., Any], run_id: str, channel: str, after: int, limit: int) -> Any:
    """Chunks that begin after the offset."""
    return [chunk for chunk in await honest(run_id, channel, after, limit) if chunk.first > after]


async def of_stripped_names(
    store: Any, honest: Callable[..., Any], run_id: str, channel: str, after: int, limit: int
) -> Any:
    """Channels whose names differ in space only are one."""
    return await honest(run_id, channel.strip(), after, limit)


async def no_names(store: Any, honest: Callable[..., Any], run_id: str) -> Any:
    """No channels."""
    return []


async def left_behind(store: Any, honest: Callable[..., Any], run_id: str, audit: Any = None) -> Any:
    """Delete a run, but leave its streams for the next one with its id."""
    left = store._streams.get(run_id)
    deleted = await honest(run_id, audit)
    if left is not None:
        store._streams[run_id] = left
    return deleted


async def pruned_in_part(
    store: Any, honest: Callable[..., Any], run_ids: Sequence[str], now: float, audit: Any = None
) -> Any:
    """Delete many runs, but leave their streams."""
    left = {run_id: store._streams[run_id] for run_id in run_ids if run_id in store._streams}
    deleted = await honest(run_ids, now, audit)
    store._streams.update(left)
    return deleted


MUTANTS: dict[str, tuple[Methods, str]] = {
    "commits no chunks": ({"commit": without_chunks}, "a_commit_writes_its_chunks"),
    "writes chunks of refused commits": ({"commit": before_the_commit}, "a_commit_writes_its_chunks"),
    "changes the run": ({"write_stream": as_transition}, "chunks_are_written_at_once"),
    "writes one chunk": ({"write_stream": one_at_a_time}, "chunks_are_written_at_once channels_are_apart"),
    "asks for no token": ({"write_stream": of_any_holder}, "only_the_holder_writes"),
    "writes a chunk again": ({"write_stream": twice}, "a_chunk_is_written_once"),
    "reads from the start": ({"read_stream": from_the_start}, "a_stream_is_read_from_any_offset"),
    "reads without a limit": ({"read_stream": all_of_them}, "a_stream_is_read_from_any_offset"),
    "leaves out a part of a chunk": ({"read_stream": that_begin}, "a_stream_is_read_from_any_offset"),
    "mixes channels": ({"read_stream": of_stripped_names}, "channels_are_apart"),
    "knows no channels": ({"channels": no_names}, "channels_are_apart"),
    "leaves streams behind": ({"delete": left_behind}, "streams_are_deleted_with_the_run"),
    "prunes no streams": ({"delete_finished": pruned_in_part}, "streams_are_deleted_with_the_run"),
}
PAIRS = [(name, f"test_{clause}") for name, (_, clauses) in MUTANTS.items() for clause in clauses.split()]


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_honest_store_keeps_every_clause(clause: str, tmp_path: Path) -> None:
    """The store that the broken ones are made of keeps the clause."""
    getattr(OnStore(Streaming), clause)(tmp_path)


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause."""
    with pytest.raises(AssertionError) as failed:
        getattr(OnStore(broken(Streaming, **MUTANTS[mutant][0])), clause)(tmp_path)
    assert str(failed.value)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in the contract that nothing is known to fail."""
    assert sorted({clause for _, clause in PAIRS}) == CLAUSES
