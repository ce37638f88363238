"""Counts the prepositions in the texts of a folder, or in texts that come with Python, and ranks the books.

Run as `python examples/text_pipeline.py [FOLDER] [--top N]`.

Without a folder it reads the docstrings of Python's standard library and the licences of the installed packages. A book
is a file, or a folder with all files in it. Of Python files only the docstrings are read. Hidden folders and links to
folders are ignored. Every text file is counted, or listed with the reason why it was skipped. Files that are not UTF-8
are counted and listed too.
"""

import argparse
import ast
import asyncio
import codecs
import io
import os
import re
import sys
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Literal

from cano import Key, KeyValueStore, Node, TaskConfig, Workflow, current_step
from cano_memory import MemoryStore
from cano_retry import Fixed


class State(Enum):
    FIND = auto()
    LOAD = auto()
    CLEAN = auto()
    COUNT = auto()
    SKIP = auto()
    RANK = auto()
    REPORT = auto()
    DONE = auto()
    NO_TEXT = auto()


@dataclass(frozen=True)
class Source:
    book: str
    path: str


@dataclass
class Book:
    name: str
    files: int = 0
    empty: int = 0
    words: int = 0
    prepositions: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Book") -> None:
        self.files += other.files
        self.empty += other.empty
        self.words += other.words
        self.prepositions += other.prepositions

    @property
    def share(self) -> float:
        return self.prepositions.total() / max(1, self.words)


FOLDER = Key("folder", str)
TOP = Key("top", int)
FOUND = Key("found", int)
PASSED_OVER = Key("passed over", int)
DONE = Key("done", int)
TEXT = Key("text", str)
COUNTED = Key("counted", list[Book])
RANKING = Key("ranking", list[Book])
ODD = Key("odd encodings", list[str])
SKIPPED = Key("skipped", list[str])

ENGLISH = """
    aboard about above across after against along amid among around as at before behind below beneath beside besides
    between beyond by concerning despite down during except for from in inside into like near of off on onto opposite
    out outside over past per regarding round since than through throughout till to toward towards under underneath
    unlike until unto up upon versus via with within without
"""
PREPOSITIONS = frozenset(ENGLISH.split())
WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
LICENCE = re.compile(r"(licen[cs]e|copying|notice|authors)([.-].*)?", re.IGNORECASE)
TEXT_FILE = re.compile(rf".*\.(txt|text|md|rst|py)|readme|{LICENCE.pattern}", re.IGNORECASE)
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # first, because it begins with the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NO_DOCUMENTATION = {"__pycache__", "test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages"}
FAULTS_OF_A_FILE = (OSError, ValueError, SyntaxError, RecursionError, MemoryError)

# an I/O error may be temporary, but a missing or forbidden file will stay so
CAREFUL = TaskConfig(
    retry=Fixed(2, 0.05, retry_on=OSError, give_up_on=(FileNotFoundError, PermissionError)),
    on_exhausted=State.SKIP,
)

flow = Workflow(State.FIND, name="prepositions", default_config=TaskConfig.minimal())
flow.add_exit_states([State.DONE, State.NO_TEXT])


def source(number: int) -> Key[Source]:
    # one key per file, because reading a list copies it, and every step would read the list
    return Key(f"source {number}", Source)


@flow.on(State.FIND)
def find(store: KeyValueStore) -> Literal[State.LOAD, State.NO_TEXT]:
    # a plain function runs in a worker thread, so it may block
    store[SKIPPED] = []
    files = list(find_files(store.get(FOLDER, default=None), lambda problem: store.append(SKIPPED, problem)))
    texts = [file for file in files if TEXT_FILE.fullmatch(os.path.basename(file.path))]
    for number, text in enumerate(texts):
        store[source(number)] = text
    store[FOUND], store[PASSED_OVER] = len(texts), len(files) - len(texts)
    store[DONE], store[COUNTED], store[ODD] = 0, [], []
    return State.LOAD if texts else State.NO_TEXT


@flow.on(State.LOAD, config=CAREFUL)
class Load(Node[State, Source, tuple[str, str]]):
    async def prep(self, store: KeyValueStore) -> Source:
        return store[source(store[DONE])]

    async def exec(self, prepared: Source) -> tuple[str, str]:
        return await asyncio.to_thread(read_text, Path(prepared.path))

    async def post(self, store: KeyValueStore, prepared: Source, result: tuple[str, str]) -> Literal[State.CLEAN]:
        store[TEXT], encoding = result
        if encoding != "utf-8":
            store.append(ODD, f"{prepared.path}: read as {encoding}")
        return State.CLEAN


@flow.on(State.CLEAN, config=CAREFUL)
def clean(store: KeyValueStore) -> Literal[State.COUNT]:
    of_python = store[source(store[DONE])].path.endswith(".py")
    store[TEXT] = prose(docstrings(store[TEXT]) if of_python else store[TEXT])
    return State.COUNT


@flow.on(State.COUNT)
def count(store: KeyValueStore) -> Literal[State.LOAD, State.RANK]:
    words = WORD.findall(store[TEXT].casefold())
    prepositions = Counter(word for word in words if word in PREPOSITIONS)
    store.append(COUNTED, Book(store[source(store[DONE])].book, 1, int(not words), len(words), prepositions))
    return advance(store)


@flow.on(State.SKIP)
async def skip(store: KeyValueStore) -> Literal[State.LOAD, State.RANK]:
    error = current_step().error
    reason = error.__cause__ if error else None
    if error and not isinstance(reason, FAULTS_OF_A_FILE):
        raise error
    why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    store.append(SKIPPED, f"{store[source(store[DONE])].path}: {why}")
    return advance(store)


def advance(store: KeyValueStore) -> Literal[State.LOAD, State.RANK]:
    store.remove(source(store[DONE]))
    if TEXT in store:
        store.remove(TEXT)
    store[DONE] += 1
    current_step().progress(store[DONE], store[FOUND])
    return State.LOAD if store[DONE] < store[FOUND] else State.RANK


@flow.on(State.RANK)
async def rank(store: KeyValueStore) -> Literal[State.REPORT]:
    books: dict[str, Book] = {}
    for counted in store[COUNTED]:
        books.setdefault(counted.name, Book(counted.name)).add(counted)
    store[RANKING] = sorted(books.values(), key=lambda book: (-book.prepositions.total(), book.name))
    store.remove(COUNTED)
    return State.REPORT


@flow.on(State.REPORT)
async def report(store: KeyValueStore) -> Literal[State.DONE]:
    encoding = sys.stdout.encoding or "utf-8"
    try:
        for line in report_lines(store):
            # a file name may contain bytes that are not valid text
            print(line.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader, such as `head`, has closed the pipe; keep Python from flushing it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return State.DONE


# functions for files and texts, independent of the workflow


def find_files(folder: str | None, problem: Callable[[str], None]) -> Iterator[Source]:
    """Return every file in the folder, or Python's own texts if it is None."""
    if folder is not None:
        yield from files_below(check_folder(folder), set(), problem)
        return
    paths = sysconfig.get_paths()
    yield from files_below(Path(paths["stdlib"]), NO_DOCUMENTATION, problem)
    for packages in sorted({paths["purelib"], paths["platlib"]}):
        for licence in sorted(Path(packages).glob("*.dist-info/**/*")):
            if LICENCE.fullmatch(licence.name) and licence.is_file():
                yield Source(licence.relative_to(packages).parts[0].removesuffix(".dist-info"), str(licence))


def files_below(root: Path, leave_out: set[str], problem: Callable[[str], None]) -> Iterator[Source]:
    def unreadable(error: OSError) -> None:
        problem(f"{error.filename}: {error.strerror}")

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name not in leave_out and not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            yield Source(path.relative_to(root).parts[0].removesuffix(".py"), str(path))


def check_folder(folder: str) -> Path:
    if not folder or not os.path.isdir(folder):
        raise NotADirectoryError(f"not a folder: {folder!r}")
    return Path(folder)


def read_text(path: Path) -> tuple[str, str]:
    """Return the text and its encoding."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    data = path.read_bytes()
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding), encoding
    if b"\0" in data:
        raise ValueError("binary data, not text")
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0] if path.suffix == ".py" else "utf-8-sig"
        return data.decode(encoding), encoding.removesuffix("-sig")
    except (ValueError, LookupError, SyntaxError):
        return data.decode("latin-1"), "latin-1"  # in which any bytes are valid


def docstrings(code: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore the compiler's warnings about the code
        tree = ast.parse(code)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return "\n".join(ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented))


def prose(text: str) -> str:
    """Return the text without code examples, URLs, and Project Gutenberg's header and footer."""
    text = re.split(r"\*\*\* ?START OF TH[^\n]*\*\*\*", text, maxsplit=1)[-1]
    text = re.split(r"\*\*\* ?END OF TH", text, maxsplit=1)[0]
    text = re.sub(r"^\s*(>>>|\.\.\.) .*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\w+://\S+", "", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def report_lines(store: KeyValueStore) -> Iterator[str]:
    ranking, skipped, odd = store[RANKING], store[SKIPPED], store[ODD]
    top = store.get(TOP, default=15)
    everything = Book("all books")
    for book in ranking:
        everything.add(book)

    yield f"{'rank':>4}  {'book':<24} {'files':>5} {'words':>9} {'prepositions':>12} {'share':>6}  most used"
    for place, book in enumerate(ranking[:top], start=1):
        yield row(str(place), book)
    if len(ranking) > top:
        rest = Book(f"{len(ranking) - top} more books")
        for book in ranking[top:]:
            rest.add(book)
        yield row("", rest)
    yield row("", everything)

    yield ""
    if long_books := [book for book in ranking if book.words >= 1000]:
        richest = max(long_books, key=lambda book: book.share)
        yield f"Most prepositions per word, of {len(long_books)} books with 1000 words or more: {richest.name}."
    yield (
        f"{store[FOUND]} text files found: {everything.files} counted, {everything.empty} of them without words; "
        f"{store[FOUND] - everything.files} skipped. {store[PASSED_OVER]} files of other kinds were passed over."
    )
    yield from ["", "Odd encodings:", *(f"  {line}" for line in odd)] if odd else ()
    yield from ["", "Skipped:", *(f"  {line}" for line in skipped)] if skipped else ()


def row(place: str, book: Book) -> str:
    name = book.name if len(book.name) <= 24 else f"{book.name[:10]}...{book.name[-11:]}"
    most_used = ", ".join(f"{word} {times}" for word, times in book.prepositions.most_common(4))
    numbers = f"{book.files:>5} {book.words:>9} {book.prepositions.total():>12} {book.share:>6.1%}"
    return f"{place:>4}  {name:<24} {numbers}  {most_used}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the prepositions in text files, and rank the books.")
    parser.add_argument("folder", nargs="?", help="folder with texts; by default texts that come with Python")
    parser.add_argument("--top", type=int, default=15, help="number of books to show (default: %(default)s)")
    arguments = parser.parse_args()
    data = {"top": arguments.top}
    if arguments.top < 1:
        parser.error(f"--top must be 1 or more, not {arguments.top}")
    if arguments.folder is not None:
        try:
            data["folder"] = str(check_folder(arguments.folder))
        except NotADirectoryError as error:
            parser.error(str(error))
    store = MemoryStore(data)
    if flow.orchestrate_sync(store) is State.NO_TEXT:
        print("no text files found", *store.get(SKIPPED), sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
