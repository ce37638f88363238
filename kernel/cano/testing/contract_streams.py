"""The store contract: streams of runs."""

from __future__ import annotations

import copy

from cano.errors import ConflictError
from cano.optional_stores import PruningStore, StreamingStore
from cano.protocols import StoreBackend
from cano.records import RunStatus, StreamChunk
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    new_run,
    note,
    raised,
    step,
    value,
)

MANY = 30
"""More chunks than a read asks for."""
CHANNELS = ("answer", "Answer", "", " ", "ключ {} \n", "a\0b", "\0", "x" * 500)


def chunk(store: StoreBackend, last: int, channel: str = "answer", size: int = 1, text: str = "") -> StreamChunk:
    """Return the chunk of `size` items that ends with the offset `last`."""
    return StreamChunk(channel, last - size + 1, last, value(store, f"{channel} {last}{text}"))


async def contents(store: StreamingStore, run_id: str = "run", channel: str = "answer") -> list[StreamChunk]:
    """Return a deep copy of all chunks of a channel."""
    return copy.deepcopy([StreamChunk(*each) for each in await store.read_stream(run_id, channel, 0, 1000)])


class StreamClauses(Contract):
    """A store with `capabilities.streams` is a `StreamingStore`; others have no `read_stream`."""

    @clause
    async def test_a_commit_writes_its_chunks(self, store: StoreBackend) -> None:
        """The chunks of a commit are there when it is; those of a refused one never are. Values are kept as given."""
        assert isinstance(store, StreamingStore) == store.capabilities.streams, "streams and read_stream go together"
        if not isinstance(store, StreamingStore):
            return
        await store.create(new_run())
        one, two, other = chunk(store, 3, size=3), chunk(store, 4), chunk(store, 2, "other", 2)
        await store.commit(step(1, chunks=[one, other], changed={"n": value(store, 1)}))
        await store.commit(note(1, chunks=[two]))
        assert await contents(store) == [one, two]
        assert await contents(store, channel="other") == [other]
        stale = chunk(store, 5)
        await raised(ConflictError, store.commit(step(1, chunks=[stale])))
        await raised(ConflictError, store.commit(step(2, token=2, chunks=[stale])))
        await raised(ConflictError, store.commit(step(1, "missing", chunks=[stale])))
        assert await contents(store) == [one, two], "a refused commit must write no chunk"
        assert await contents(store, "missing") == []
        await store.commit(step(2, status=RunStatus.SUCCEEDED, release=True, chunks=[stale]))
        assert await contents(store) == [one, two, stale]
        assert len(await store.history("run")) in (0, 3), "a chunk is not a transition"

    @clause
    async def test_chunks_are_written_at_once(self, store: StoreBackend) -> None:
        """`write_stream` adds chunks beside the commits, in any number, and changes nothing else of the run."""
        if not isinstance(store, StreamingStore):
            return
        await store.create(new_run(data={"n": value(store, 0)}))
        before = copy.deepcopy(await store.load("run"))
        written = [chunk(store, 2 * number, size=2) for number in range(1, MANY + 1)]
        await store.write_stream("run", 1, written[:1])
        await store.write_stream("run", 1, written[1:])
        await store.write_stream("run", 1, [])
        assert await contents(store) == written
        assert await store.load("run") == before, "write_stream must change nothing but the streams"
        await store.commit(step(1, chunks=[chunk(store, 2 * MANY + 1)]))
        assert len(await contents(store)) == MANY + 1

    @clause
    async def test_only_the_holder_writes(self, store: StoreBackend) -> None:
        """`write_stream` under an earlier token, or for a run that does not exist, is refused and writes nothing."""
        if not isinstance(store, StreamingStore):
            return
        await store.create(new_run())
        await store.write_stream("run", 1, [chunk(store, 1)])
        assert await store.claim("run", "other", LATER + 1, LATER + 9) == 2
        chunks = [chunk(store, 2), chunk(store, 1, "new")]
        await raised(ConflictError, store.write_stream("run", 1, chunks))
        await raised(ConflictError, store.write_stream("run", 3, chunks))
        await raised(ConflictError, store.write_stream("missing", 1, chunks))
        assert await contents(store) == [chunk(store, 1)]
        assert await contents(store, channel="new") == await contents(store, "missing") == []
        await store.write_stream("run", 2, chunks)
        assert await contents(store) == [chunk(store, 1), chunk(store, 2)]

    @clause
    async def test_a_chunk_is_written_once(self, store: StoreBackend) -> None:
        """A chunk with the channel and the last offset of one that is there is ignored, beside others that are new."""
        if not isinstance(store, StreamingStore):
            return
        await store.create(new_run())
        first, second, third, fourth = (chunk(store, last) for last in (1, 2, 3, 4))
        await store.write_stream("run", 1, [first])
        await store.write_stream("run", 1, [chunk(store, 1, text=" again"), second])
        assert await contents(store) == [first, second]
        await store.commit(step(1, chunks=[second, chunk(store, 1, "other"), third]))
        await store.write_stream("run", 1, [third, fourth])
        assert await contents(store) == [first, second, third, fourth]
        assert await contents(store, channel="other") == [chunk(store, 1, "other")]

    @clause
    async def test_a_stream_is_read_from_any_offset(self, store: StoreBackend) -> None:
        """`read_stream` returns the chunks that end after an offset, in their order, up to the limit."""
        if not isinstance(store, StreamingStore):
            return
        await store.create(new_run())
        written = [chunk(store, 3 * number, size=3) for number in range(1, MANY + 1)]
        for each in written:
            await store.write_stream("run", 1, [each])

        async def read(after: int, limit: int) -> list[int]:
            return [each.last for each in await store.read_stream("run", "answer", after, limit)]

        assert await read(0, 2) == [3, 6]
        assert await read(4, 2) == [6, 9], "a chunk that ends after the offset is returned whole"
        assert await read(6, 1) == [9]
        assert await read(3 * MANY - 1, 9) == [3 * MANY]
        assert await read(3 * MANY, 9) == await read(10**9, 9) == await read(0, 0) == []
        assert [*await store.read_stream("run", "nothing", 0, 9)] == []

    @clause
    async def test_channels_are_apart(self, store: StoreBackend) -> None:
        """Each channel of each run has chunks of its own, whatever its name is; `channels` names all of them."""
        if not isinstance(store, StreamingStore):
            return
        await store.create(new_run())
        await store.create(new_run("other"))
        assert [*await store.channels("run")] == [*await store.channels("missing")] == []
        await store.write_stream("run", 1, [chunk(store, 1, channel) for channel in CHANNELS])
        await store.commit(step(1, "other", chunks=[chunk(store, 1, text=" of other")]))
        for channel in CHANNELS:
            assert await contents(store, channel=channel) == [chunk(store, 1, channel)]
        assert await contents(store, "other") == [chunk(store, 1, text=" of other")]
        assert sorted(await store.channels("run")) == sorted(CHANNELS)
        assert [*await store.channels("other")] == ["answer"]

    @clause
    async def test_streams_are_deleted_with_the_run(self, store: StoreBackend) -> None:
        """A deleted run leaves no stream: a later run with its id begins with none. Other runs keep theirs."""
        if not isinstance(store, StreamingStore) or not store.capabilities.retention:
            return
        for run_id in ("run", "pruned", "kept"):
            await store.create(new_run(run_id))
            await store.write_stream(run_id, 1, [chunk(store, 1)])
            await store.commit(step(1, run_id, status=RunStatus.SUCCEEDED, release=True, chunks=[chunk(store, 2)]))
        await store.delete("run")
        if isinstance(store, PruningStore):
            assert [*await store.delete_finished(["pruned"], NOW)] == ["pruned"]
        else:
            await store.delete("pruned")
        for run_id in ("run", "pruned"):
            await store.create(new_run(run_id))
            assert await contents(store, run_id) == [] == [*await store.channels(run_id)]
            await store.write_stream(run_id, 1, [chunk(store, 1, text=" new")])
            assert await contents(store, run_id) == [chunk(store, 1, text=" new")]
        assert await contents(store, "kept") == [chunk(store, 1), chunk(store, 2)]
