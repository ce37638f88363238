"""Counts the lines of every Python file below a folder, all files side by side, and says which could not be read.

Run as `python examples/fan_out_files.py [FOLDER] [--top N]`. Without a folder it reads Python's own library.

How many branches the split has is known only when the files were found. A branch that fails is no failure of the
whole: the join takes what it can get, and the next state's task finds in the outcome what became of each file.
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
    """How many lines a file has of each kind."""

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

# a drive that hiccups is asked again; a file that is gone, or not ours to read, is not there the next time either
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
    # a plain function: it blocks a worker thread, and nobody else
    lines = comments = blank = 0
    with tokenize.open(path) as file:  # in the encoding that the file says it has
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
            # what the task raised is the cause of the branch's error; one that was cut off has none
            why = branch.status.value if branch.error is None else repr(branch.error.__cause__)
            print(f"not counted: {os.path.relpath(path, store[FOLDER])}: {why}")
    return State.DONE


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the lines of Python files.")
    parser.add_argument("folder", nargs="?", type=Path, help="by default Python's own library")
    parser.add_argument("--top", type=int, default=5, help="how many of the longest files to show")
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
