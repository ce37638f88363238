"""Compares commits to an encrypted store with those to the same kind of store without encryption.

    python tests/plugins/encryption/bench_encryption.py [--rounds N]

Not a test: it asserts nothing. The stores are SQLite files, which wait for the disk, and the strict store in memory,
which shows what encryption itself takes. "values only" is the price of encrypting each value by itself, without binding
it to its place and without a seal, as earlier versions did.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from cano import Commit, StoreBackend
from cano_durability.sealing.store import sealed
from cano_encryption import EncryptionLayer, new_key, read_keys
from cano_memory.backend import MemoryBackend
from cano_sqlite import SqliteBackend

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.benchmarks.commits import RUNS, Cano

LAYER = EncryptionLayer(read_keys(new_key()))


class ValuesOnly:
    """A store that gets each value encrypted by itself."""

    def __init__(self, store: StoreBackend) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commit: Commit) -> None:
        """Encrypt the values, and commit."""
        changed = {key: LAYER.wrap(value) for key, value in commit.changed.items()}
        await self._store.commit(commit._replace(changed=changed))


async def measure(folder: Path, rounds: int) -> None:
    """Print the medians of each kind of store."""
    print(f"{'':12} {'plain':>9} {'values only':>12} {'sealed':>9}   µs for each commit of one run")
    kinds: dict[str, list[StoreBackend]] = {
        "in memory": [MemoryBackend(strict=True) for _ in range(3)],
        "SQLite": [SqliteBackend(folder / f"{number}.db") for number in range(3)],
    }
    for name, (first, second, third) in kinds.items():
        only: Any = ValuesOnly(second)
        ways = [Cano(first), Cano(only), Cano(sealed(third, LAYER, ["encrypt"]))]
        for way in ways:
            await way.store.open()
            await way.begin("one")
            for number in range(RUNS):
                await way.begin(f"run {number}")
            await way.one(200)
        found = [[await way.one(200) for way in ways] for _ in range(rounds)]
        crowd = [[await way.many(10) for way in ways] for _ in range(rounds)]
        for what, times in (("", found), (f", {RUNS} runs", crowd)):
            plain, by_value, all_of_it = (statistics.median(column) * 1e6 for column in zip(*times, strict=True))
            print(f"{name + what:22} {plain:9.1f} {by_value:12.1f} {all_of_it:9.1f}")
        for way in ways:
            await way.store.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often each is measured; the median counts")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), parser.parse_args().rounds))


if __name__ == "__main__":
    main()
