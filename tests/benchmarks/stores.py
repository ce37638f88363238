"""`python -m tests.benchmarks.stores`: each durable store beside its bare driver, in one run.

Each pair shares a disk or a server. The servers are real, and wait for the disk at each commit, as SQLite does.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.plugins.encryption import bench_encryption
from tests.plugins.postgres import bench_postgres
from tests.plugins.redis import bench_redis
from tests.plugins.sqlite import bench_sqlite
from tests.servers.postgres import start_postgres
from tests.servers.redis import start_redis

LMDB = Path(__file__).parents[2] / "examples" / "third_party_store" / "bench_lmdb.py"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often each is measured; the median counts")
    rounds = parser.parse_args().rounds

    print("SQLite beside sqlite3, synchronous=FULL")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(bench_sqlite.measure(Path(folder), rounds))
        print("\nEncrypted stores beside stores that are not", flush=True)
        asyncio.run(bench_encryption.measure(Path(folder), rounds))
    print("\nLMDB beside py-lmdb", flush=True)  # the store of somebody else: by its own program
    subprocess.run([sys.executable, LMDB, "--rounds", str(rounds)], check=True)
    print("\nPostgreSQL beside psycopg")
    postgres = start_postgres()
    try:
        asyncio.run(bench_postgres.measure(postgres.new_url(), rounds))
    finally:
        postgres.throw_away()
    print("\nRedis beside redis-py, appendfsync=always")
    redis = start_redis()
    try:
        asyncio.run(bench_redis.measure(redis, rounds))
    finally:
        redis.throw_away()


if __name__ == "__main__":
    main()
