"""Counts the lines of every Python file below a folder, all files concurrently, and lists unreadable files.

Run as `python examples/fan_out_files.py [FOLDER] [--top N]`. Without a folder it reads Python's own library.

The split has one branch per file, so their number is known only at run time. A failed branch does not fail the run: the
join accepts any number of results, and the next task reads the outcome of each branch.
"""

import argparse
import os
import sys
import sysconfig
import tokenize
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from cano import BranchStatus, JoinConfig, JoinStrategy, Key, KeyValueStore, TaskConfig, Workflow, current_step
from cano_retry import Fixed


class State(Enum):
    FIND = auto()
    COUNT = auto()
    REPORT = auto()
    DONE = auto()


class Lines(NamedTuple):
    """The numbers of lines of each kind in a file."""

    path: str
    code: int
    comments: int
    blank: int

    @property
    def total(self) -> int:
        return self.code + self.comments + self.blank


FOLDER = Key("folder", str)
TOP = Key("top", int)
PATHS = Key("paths", list[str])

LEFT_OUT = {"__pycache__", "site-packages", "dist-packages"}

# an I/O error may be temporary, but a missing or forbidden file will stay so
CAREFUL = TaskConfig(retry=Fixed(2, 0.05, retry_on=OSError, give_up_on=(FileNotFoundError, PermissionError)))

flow = Workflow(State.FIND, name="line count", default_config=TaskConfig.minimal())
flow.add_exit_state(State.DONE)


@flow.on(State.FIND)
def find(store: KeyValueStore) -> Literal[State.COUNT]:
    root = store.get(FOLDER, default=sysconfig.get_path("stdlib"))
    paths = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.startswith("."))
        paths += [os.path.join(folder, name) for name in sorted(names) if name.endswith(".py")]
    store[FOLDER], store[PATHS] = str(root), paths
    return State.COUNT


def count(path: str, store: KeyValueStore) -> Lines:
    # a plain function runs in a worker thread, so it may block
    lines = comments = blank = 0
    with tokenize.open(path) as file:  # in the encoding that the file declares
        for line in file:
            text = line.strip()
            lines += 1
            comments += text.startswith("#")
            blank += not text
    return Lines(os.path.relpath(path, store[FOLDER]), lines - comments - blank, comments, blank)


def one_branch_per_file(store: KeyValueStore) -> list[Callable[[KeyValueStore], Lines]]:
    return [partial(count, path) for path in store[PATHS]]


flow.register_split(
    State.COUNT,
    one_branch_per_file,
    JoinConfig(JoinStrategy.partial(0), State.REPORT, limit=32, timeout=300),
    config=CAREFUL,
)


@flow.on(State.REPORT)
def report(store: KeyValueStore) -> Literal[State.DONE]:
    outcome, paths = current_step().outcome, store[PATHS]
    counted: list[Lines] = outcome.results
    print(f"{len(paths)} files: {len(counted)} counted, {len(paths) - len(counted)} not")
    code, comments, blank = (sum(column) for column in list(zip(*counted, strict=True))[1:] or [(), (), ()])
    print(f"{code} lines of code, {comments} of comments, {blank} blank")
    for lines in sorted(counted, key=lambda lines: (-lines.total, lines.path))[: store.get(TOP, default=5)]:
        print(f"{lines.total:8} {lines.path}")
    for path, branch in zip(paths, outcome.branches, strict=True):
        if branch.status is not BranchStatus.OK:
            # the cause of the branch's error is the task's exception; a cancelled branch has no error
            why = branch.status.value if branch.error is None else repr(branch.error.__cause__)
            print(f"not counted: {os.path.relpath(path, store[FOLDER])}: {why}")
    return State.DONE


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the lines of Python files.")
    parser.add_argument("folder", nargs="?", type=Path, help="folder to read; by default Python's own library")
    parser.add_argument("--top", type=int, default=5, help="number of longest files to show")
    given = parser.parse_args()
    data: dict[str, object] = {"top": given.top}
    if given.folder is not None:
        if not given.folder.is_dir():
            parser.error(f"not a folder: {given.folder}")
        data["folder"] = str(given.folder)
    flow.orchestrate_sync(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
