"""Counts the words of many texts by map and reduce: branches count words, and a reducer adds the counts.

Run as `python examples/word_count_map_reduce.py [FOLDER] [--top N] [--parts N] [--executor process://]`.

Without a folder it reads texts that come with Python: the docstrings of its library's modules and the licences of the
installed packages. It distributes the files over the given number of branches. Each branch writes its counts under the
same key in its own view of the store. At the join the key's reducer merges them.

The branches are executed in this process, or where `--executor` says.
"""

import argparse
import ast
import asyncio
import operator
import os
import re
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Literal

from cano import JoinConfig, JoinStrategy, Kernel, Key, KeyValueStore, TaskConfig, Workflow


class State(Enum):
    FIND = auto()
    MAP = auto()
    REPORT = auto()
    DONE = auto()


FOLDER = Key("folder", str)
TOP = Key("top", int)
PARTS = Key("parts", int)
PATHS = Key("paths", list[str])
COUNTS = Key("counts", Counter[str], reducer=operator.add)
UNREADABLE = Key("unreadable", list[str])

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
LICENCE = re.compile(r"(licen[cs]e|copying|notice|authors)([.-].*)?", re.IGNORECASE)
TEXT = re.compile(rf".*\.(txt|md|rst|py)|{LICENCE.pattern}", re.IGNORECASE)

flow = Workflow(State.FIND, name="word count", default_config=TaskConfig.minimal())
flow.add_exit_state(State.DONE)


@flow.on(State.FIND)
def find(store: KeyValueStore) -> Literal[State.MAP]:
    folder = store.get(FOLDER, default=None)
    found = texts_of_python() if folder is None else Path(folder).rglob("*")
    store[PATHS] = sorted(str(path) for path in found if TEXT.fullmatch(path.name) and path.is_file())
    store[COUNTS], store[UNREADABLE] = Counter(), []
    return State.MAP


def texts_of_python() -> Iterator[Path]:
    yield from Path(sysconfig.get_path("stdlib")).glob("*.py")
    for licence in Path(sysconfig.get_path("purelib")).glob("*.dist-info/**/*"):
        if LICENCE.fullmatch(licence.name):
            yield licence


def distribute(store: KeyValueStore) -> list[Callable[[KeyValueStore], int]]:
    paths, parts = store[PATHS], store.get(PARTS, default=os.cpu_count() or 1)
    return [partial(count, paths[part::parts]) for part in range(min(parts, len(paths)))]


def count(paths: list[str], store: KeyValueStore) -> int:
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            counts.update(word.casefold() for word in WORD.findall(read(Path(path))))
        except (OSError, ValueError, SyntaxError) as error:
            store.append(UNREADABLE, f"{path}: {type(error).__name__}")  # the join keeps the appends of all branches
    store[COUNTS] = counts
    return len(paths)


join = JoinConfig(JoinStrategy.all(), State.REPORT, reducers=[COUNTS])
flow.register_split(State.MAP, distribute, join, config=TaskConfig(executor="words"))


def read(path: Path) -> str:
    if path.suffix != ".py":
        return path.read_text(encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore the compiler's warnings about the code
        tree = ast.parse(path.read_bytes())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return "\n".join(ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented))


@flow.on(State.REPORT)
async def report(store: KeyValueStore) -> Literal[State.DONE]:
    counts, unreadable = store[COUNTS], store[UNREADABLE]
    print(f"{len(store[PATHS]) - len(unreadable)} texts, {counts.total()} words, {len(counts)} different ones")
    for word, times in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: store.get(TOP, default=10)]:
        print(f"{times:8} {word}")
    for line in sorted(unreadable):
        print("unreadable:", line)
    return State.DONE


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the words of many texts.")
    parser.add_argument("folder", nargs="?", type=Path, help="folder to read; by default texts that come with Python")
    parser.add_argument("--top", type=int, default=10, help="number of words to show")
    parser.add_argument("--parts", type=int, help="number of branches; by default one per processor")
    parser.add_argument("--executor", help="URL of what executes the branches, such as process://?workers=2")
    given = parser.parse_args()
    data: dict[str, object] = {"top": given.top}
    if given.parts is not None:
        if given.parts < 1:
            parser.error(f"--parts must be 1 or more, not {given.parts}")
        data["parts"] = given.parts
    if given.folder is not None:
        if not given.folder.is_dir():
            parser.error(f"not a folder: {given.folder}")
        data["folder"] = str(given.folder)
    asyncio.run(execute(data, given.executor))
    return 0


async def execute(data: dict[str, object], executor: str | None) -> None:
    async with Kernel(executor={"words": executor}) as kernel:
        await kernel.run(flow, data)


if __name__ == "__main__":
    sys.exit(main())
