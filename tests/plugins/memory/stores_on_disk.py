"""A small store on disk, and variants that break a clause of the durable contract or lack an optional feature.

The store is a log of calls, which every process replays into a `MemoryBackend` of its own. The contract starts this
file as its worker: `python stores_on_disk.py CLASS URL NAME JOB COUNT`.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from cano import Capabilities, StoreError, StoreUnavailableError, Transition
from cano.testing.contract_worker import main
from cano_memory import MemoryBackend


def logged(name: str) -> Any:
    """Wrap a method so that it logs its call after it has succeeded."""

    async def method(self: LogBackend, *args: Any) -> Any:
        with self.locked():
            await self.catch_up()
            answer = await getattr(self.memory, name)(*args)
            self.log(name, args)
            return answer

    return method


def unlogged(name: str) -> Any:
    """Wrap a method that only reads."""

    async def method(self: LogBackend, *args: Any) -> Any:
        with self.locked():
            await self.catch_up()
            return await getattr(self.memory, name)(*args)

    return method


class LogBackend:
    """Keeps calls in a file, pickled, because only this test can write to it. Do not copy this."""

    def __init__(self, url: str) -> None:
        self.capabilities = Capabilities()
        self.memory = MemoryBackend(strict=True)
        self.path = url.removeprefix("log://")
        self.file: Any = None
        self.closed = False

    async def open(self) -> None:
        """Open the file."""
        if self.closed:
            raise StoreUnavailableError("closed")
        self.file = open(self.path, "a+b")  # noqa: SIM115, ASYNC230  # a test's toy
        self.file.seek(0)

    async def close(self) -> None:
        """Close the file."""
        self.closed = True
        if self.file is not None:
            self.file.close()
            self.file = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold a lock against other processes and the other backends of this process."""
        if self.file is None:
            raise StoreUnavailableError("closed")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.file, fcntl.LOCK_UN)

    async def catch_up(self) -> None:
        """Apply the calls that other backends have logged meanwhile."""
        while length := self.file.read(8):
            entry = self.file.read(int.from_bytes(length, "big"))
            if len(entry) < int.from_bytes(length, "big"):  # its writer was killed: it does not count
                self.file.seek(-len(length + entry), os.SEEK_CUR)
                self.file.truncate()
                return
            name, args = pickle.loads(entry)
            await getattr(self.memory, name)(*args)

    def log(self, name: str, args: Sequence[Any]) -> None:
        """Write one entry."""
        entry = pickle.dumps((name, args))
        self.file.write(len(entry).to_bytes(8, "big") + entry)
        self.file.flush()

    create, commit, claim, renew = logged("create"), logged("commit"), logged("claim"), logged("renew")
    release, put_signal, delete = logged("release"), logged("put_signal"), logged("delete")
    load, runs, history = unlogged("load"), unlogged("runs"), unlogged("history")
    next_signal, ready = unlogged("next_signal"), unlogged("ready")
    signals, missing_recipients = unlogged("signals"), unlogged("missing_recipients")


class Modest(LogBackend):
    """Does not declare that it is durable."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.capabilities = Capabilities(durable=False)


class Boastful(LogBackend):
    """Declares `notify`, but has no `watch`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.capabilities = Capabilities(notify=True)


class Shy(LogBackend):
    """Has `watch`, but does not declare `notify`."""

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Do nothing."""


class Telling(Boastful):
    """Notifies the other backends of this process of its writes."""

    watchers: ClassVar[dict[LogBackend, Callable[[str | None], None]]] = {}

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Notify `tell` from now on."""
        self.watchers[self] = tell

    def log(self, name: str, args: Sequence[Any]) -> None:
        """Write, and notify the other backends."""
        super().log(name, args)
        for other in [each for each in self.watchers if each is not self and each.path == self.path]:
            self.tell(other, getattr(args[0], "run_id", args[0]))

    def tell(self, other: LogBackend, run_id: str) -> None:
        """Notify one of the others, and ignore its exceptions."""
        with suppress(ValueError):
            self.watchers[other](run_id)

    async def close(self) -> None:
        """Close, and receive no more notifications."""
        self.watchers.pop(self, None)
        await super().close()


class Mute(Boastful):
    """Declares `notify`, but never sends a notification."""

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Do nothing."""


class Secretive(Telling):
    """Sends notifications of everything but deletions."""

    def log(self, name: str, args: Sequence[Any]) -> None:
        """Send a notification, unless the call is a deletion."""
        LogBackend.log(self, name, args) if name == "delete" else super().log(name, args)


class Terse(Telling):
    """Tells no more than the beginning of an id."""

    def tell(self, other: LogBackend, run_id: str) -> None:
        """Cut it off."""
        super().tell(other, run_id[:100])


class Touchy(Telling):
    """Tells nothing more to those who raise."""

    def tell(self, other: LogBackend, run_id: str) -> None:
        """Drop them."""
        try:
            self.watchers[other](run_id)
        except ValueError:
            del self.watchers[other]


class Indiscreet(Telling):
    """Tells those who have closed."""

    async def close(self) -> None:
        """Close, and be told all the same."""
        await LogBackend.close(self)


class Streaming(Telling):
    """Keeps streams, and notifies the other backends of their chunks."""

    listeners: ClassVar[dict[LogBackend, Callable[[str | None], None]]] = {}
    write_stream, read_stream, channels = logged("write_stream"), unlogged("read_stream"), unlogged("channels")

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.capabilities = Capabilities(notify=True, streams=True)

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        """Notify `tell` of chunks from now on."""
        self.listeners[self] = tell

    def log(self, name: str, args: Sequence[Any]) -> None:
        """Write, and notify the other backends of chunks."""
        super().log(name, args)
        for other in [each for each in self.listeners if each is not self and each.path == self.path]:
            if name == "write_stream" or getattr(args[0], "chunks", False):
                self.listeners[other](getattr(args[0], "run_id", args[0]))

    async def close(self) -> None:
        """Close, and receive no more notifications."""
        self.listeners.pop(self, None)
        await super().close()


class Hushed(Streaming):
    """Tells once that chunks may have been written, and never again."""

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        """Notify once."""
        tell(None)


class Discreet(Streaming):
    """Tells of the chunks of commits only."""

    def log(self, name: str, args: Sequence[Any]) -> None:
        """Send a notification, unless the chunks come at once."""
        LogBackend.log(self, name, args) if name == "write_stream" else super().log(name, args)


class Fleeting(Streaming):
    """Keeps the chunks that come at once in memory only."""

    write_stream = unlogged("write_stream")


class Forgetful(LogBackend):
    """Writes nothing."""

    def log(self, name: str, args: Sequence[Any]) -> None:
        """Do nothing."""


class Hasty(LogBackend):
    """Acknowledges commits before it writes them, a hundred at a time or when it closes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.waiting: list[Any] = []

    def log(self, name: str, args: Sequence[Any]) -> None:
        """Write a hundred commits at a time."""
        if name == "commit":
            self.waiting.append(args)
        else:
            super().log(name, args)
        if len(self.waiting) == 100:
            self.write()

    def write(self) -> None:
        """Write the waiting commits."""
        for args in self.waiting:
            super().log("commit", args)
        self.waiting = []

    async def close(self) -> None:
        """Write the waiting commits, and close."""
        if self.file is not None:
            self.write()
        await super().close()


class Careless(Hasty):
    """Acknowledges commits before it writes them, and closes without writing them."""

    async def close(self) -> None:
        """Close."""
        await LogBackend.close(self)


class Partial(LogBackend):
    """Logs a commit's changes, but not the signals that it consumes."""

    def log(self, name: str, args: Sequence[Any]) -> None:
        """Log the call; of a commit only a part."""
        if name == "commit":
            (commit,) = args
            args = (commit._replace(consumed=()),)
        super().log(name, args)


class Alone(LogBackend):
    """Reads the file when it is opened, and never again."""

    async def open(self) -> None:
        """Open the file and read it."""
        await super().open()
        await super().catch_up()

    async def catch_up(self) -> None:
        """Do nothing."""


class NoHistory(LogBackend):
    """Keeps no history, as declared."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.capabilities = self.capabilities._replace(history=False)

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Return nothing."""
        with self.locked():
            return ()


class NoRetention(LogBackend):
    """Deletes nothing, as declared."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.capabilities = self.capabilities._replace(retention=False)

    async def delete(self, run_id: str) -> bool:
        """Refuse."""
        with self.locked():
            raise StoreError(f"this store keeps everything, {run_id} too")


class Neither(NoHistory, NoRetention):
    """Keeps no history and deletes nothing, as declared."""


class Gossip(NoHistory):
    """Declares no history, but keeps one."""

    history = LogBackend.history


class Shredder(NoRetention):
    """Declares no retention, but deletes."""

    delete = LogBackend.delete


class Sly(NoRetention):
    """Deletes, and then refuses to."""

    async def delete(self, run_id: str) -> bool:
        """Delete, and refuse."""
        await LogBackend.delete(self, run_id)
        return await super().delete(run_id)


if __name__ == "__main__":
    main(sys.argv[2:], globals()[sys.argv[1]])
