"""Workflows started by one scheduler: by the clock, by events and by hand. It watches a folder for two seconds.

python examples/schedule_several.py [FOLDER]
"""

import asyncio
import sys
from pathlib import Path

from cano import Kernel, KeyValueStore, Workflow
from cano_scheduler import Scheduler

count: Workflow[str] = Workflow("count", name="count").add_exit_state("counted")
index: Workflow[str] = Workflow("index", name="index").add_exit_state("indexed")


@count.on("count")
async def count_files(store: KeyValueStore) -> str:
    folder = Path(store.get("folder", str))
    number = await asyncio.to_thread(lambda: sum(path.is_file() for path in folder.iterdir()))
    print(f"count: {number} files in {folder.name}")
    return "counted"


@index.on("index")
async def index_file(store: KeyValueStore) -> str:
    path = Path(store.get("path", str))
    text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    print(f"index: {path.name} has {len(text.split())} words")
    return "indexed"


async def main(folder: Path, files: list[Path]) -> None:
    async with Kernel() as kernel:
        scheduler = Scheduler(kernel)
        scheduler.every("count", count, 0.5, data={"folder": str(folder)})
        scheduler.cron("nightly", count, "0 0 3 * * *", tz="Europe/Berlin", data={"folder": str(folder)})
        scheduler.on("index", index, "new file", overlap="queue")
        scheduler.manual("reindex", index)
        async with scheduler:
            for path in files:
                await scheduler.emit("new file", {"path": str(path)})
            handle = await scheduler.trigger("reindex", {"path": str(Path(__file__))})
            await handle.result()
            await asyncio.sleep(1.8)
        for info in await scheduler.list():
            print(f"{info.id}: {info.kind}, {info.state}, {info.run_count} runs, {info.failures} failed")


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent
    asyncio.run(main(folder, sorted(folder.glob("*.py"))[:3]))
