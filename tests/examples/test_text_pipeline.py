"""The text pipeline: its counts, its report and its errors."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from cano import Kernel, TaskError
from cano.testing import VirtualClock

OutputOf = Callable[..., list[str]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]
Row = tuple[int, int, int, str]  # files, words, prepositions, most used

ROW = re.compile(r"(?:....)  (.{24}) +(\d+) +(\d+) +(\d+) +(\d+\.\d)%(?:  (.*))?")


def table(lines: list[str]) -> dict[str, Row]:
    """Return the report's table by book, and check the shares."""
    rows = {}
    for line in lines[1 : lines.index("")]:
        found = ROW.fullmatch(line)
        assert found, line
        name, files, words, prepositions, share, most_used = found.groups()
        assert f"{int(prepositions) / max(1, int(words)):.1%}" == f"{share}%"
        rows[name.strip()] = int(files), int(words), int(prepositions), most_used or ""
    return rows


def summary(lines: list[str]) -> list[int]:
    """Return the numbers of files found, counted, without words, skipped and passed over."""
    return [int(number) for line in lines if "text files found" in line for number in re.findall(r"\d+", line)]


def section(lines: list[str], title: str) -> list[str]:
    """Return the lines below a title of the report."""
    if title not in lines:
        return []
    below = lines[lines.index(title) + 1 :]
    return [line.strip() for line in below[: below.index("") if "" in below else None]]


# what it counts


def test_it_counts_files_folders_and_documentation(output_of: OutputOf, tmp_path: Path) -> None:
    """A book is a file or a folder; only docstrings of Python and the authors' words of Gutenberg's books count."""
    texts = {
        "letter.txt": "To you, and to nobody else: I'm OF the up-to-date kind, with it.",
        "poems/one.md": "Over the hill, under the tree.",
        "poems/late/two.rst": "Over and over. See https://of.example/in/at for the rest.",
        "module.py": '"""In short.\n\n>>> sit(on="of in at")\n"""\n# of of of\n'
        'class A:\n    """At rest."""\n    async def f(self): "by night"; return "with of in"\n',
        "LICENSE": "Without warranty",
        "gutenberg.txt": "Header of in at\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n"
        "He went into it\u2019s depths.\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\nof of",
        "nothing.txt": "",
        "data.csv": "of,in",
        "photo.png": "of",
        ".hidden/secret.txt": "of",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    lines = output_of("text_pipeline", tmp_path)

    assert table(lines) == {
        "poems": (2, 13, 5, "over 3, under 1, for 1"),
        "letter.txt": (1, 13, 4, "to 2, of 1, with 1"),
        "module": (1, 6, 3, "in 1, at 1, by 1"),
        "LICENSE": (1, 2, 1, "without 1"),
        "gutenberg.txt": (1, 5, 1, "into 1"),
        "nothing.txt": (1, 0, 0, ""),
        "all books": (7, 39, 14, "over 3, to 2, under 1, for 1"),
    }
    assert summary(lines) == [7, 7, 1, 0, 2]


def test_it_ranks_by_prepositions_then_name(output_of: OutputOf, tmp_path: Path) -> None:
    """The counts equal those of generated texts, and the table is sorted."""
    random = Random(20)
    made = {}
    for number in range(40):
        counts = {word: random.randrange(6) for word in ("of", "in", "under", "without")}
        words = [word for word, times in counts.items() for _ in range(times)]
        words += random.choices(["tree", "house", "often", "ins", "offer"], k=random.randrange(200))
        random.shuffle(words)
        (tmp_path / f"book {number}.txt").write_text(random.choice(" \n\t").join(words))
        made[f"book {number}.txt"] = (1, len(words), sum(counts.values()))

    found = {name: row[:3] for name, row in table(output_of("text_pipeline", tmp_path, "--top", "40")).items()}
    everything = found.pop("all books")

    assert made == found
    assert sorted(made, key=lambda name: (-made[name][2], name)) == list(found)
    assert tuple(map(sum, zip(*made.values(), strict=True))) == everything


def test_books_below_the_top_are_summed_up(output_of: OutputOf, tmp_path: Path) -> None:
    """The sums do not depend on `--top`."""
    for number in range(1, 6):
        (tmp_path / f"{number}.txt").write_text("of " * number)

    lines = output_of("text_pipeline", tmp_path, "--top", "2")

    assert table(lines) == {
        "5.txt": (1, 5, 5, "of 5"),
        "4.txt": (1, 4, 4, "of 4"),
        "3 more books": (3, 6, 6, "of 6"),
        "all books": (5, 15, 15, "of 15"),
    }


def test_the_richest_long_book_is_named(output_of: OutputOf, tmp_path: Path) -> None:
    """Short books are excluded from the ranking by share."""
    (tmp_path / "short.txt").write_text("of in at")
    (tmp_path / "rich.txt").write_text("of tree " * 500)
    (tmp_path / "poor.txt").write_text("of tree tree " * 1000)

    lines = output_of("text_pipeline", tmp_path)

    assert "Most prepositions per word, of 2 books with 1000 words or more: rich.txt." in lines


def test_odd_encodings_are_counted_and_listed(output_of: OutputOf, tmp_path: Path) -> None:
    """A text that is not UTF-8 is counted completely, and the report names its encoding."""
    (tmp_path / "plain.txt").write_text("caf\u00e9 of", encoding="utf-8")
    (tmp_path / "marked.txt").write_text("caf\u00e9 of", encoding="utf-8-sig")
    (tmp_path / "western.txt").write_bytes("caf\u00e9 of".encode("latin-1"))
    (tmp_path / "wide.txt").write_text("caf\u00e9 of", encoding="utf-16")
    (tmp_path / "wider.txt").write_text("caf\u00e9 of", encoding="utf-32")
    (tmp_path / "declared.py").write_bytes('# coding: koi8-r\n"""of \u043c\u0438\u0440"""'.encode("koi8-r"))
    (tmp_path / "foreign.py").write_text('# coding: klingon\n"""cafe of"""', encoding="utf-8")
    (tmp_path / "no_text.py").write_text('# coding: hex\n"""cafe of"""', encoding="utf-8")
    (tmp_path / "wrong.py").write_bytes('"""caf\u00e9 of"""'.encode("latin-1"))

    lines = output_of("text_pipeline", tmp_path)

    rows = table(lines)
    assert rows.pop("all books") == (9, 18, 9, "of 9")
    assert {(1, 2, 1, "of 1")} == set(rows.values())
    assert [
        f"{tmp_path / 'declared.py'}: read as koi8-r",
        f"{tmp_path / 'foreign.py'}: read as latin-1",
        f"{tmp_path / 'no_text.py'}: read as latin-1",
        f"{tmp_path / 'western.txt'}: read as latin-1",
        f"{tmp_path / 'wide.txt'}: read as utf-16",
        f"{tmp_path / 'wider.txt'}: read as utf-32",
        f"{tmp_path / 'wrong.py'}: read as latin-1",
    ] == section(lines, "Odd encodings:")
    assert section(lines, "Skipped:") == []


def test_what_cannot_be_read_is_listed(output_of: OutputOf, tmp_path: Path) -> None:
    """Every file is counted or listed with a reason; a skipped file does not affect the others."""
    (tmp_path / "good.txt").write_text("of")
    (tmp_path / "binary.txt").write_bytes(b"of\0of")
    (tmp_path / "cut.txt").write_bytes(b"\xff\xfeo")
    (tmp_path / "broken.py").write_text("def (:")
    (tmp_path / "deep.py").write_text("-" * 100_000 + "1")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    expected = {"binary.txt", "broken.py", "cut.txt", "deep.py", "gone.txt"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.txt")  # to open it would wait for ever
        expected.add("pipe.txt")

    lines = output_of("text_pipeline", tmp_path)

    reasons = {Path(path).name: why for path, _, why in (line.partition(": ") for line in section(lines, "Skipped:"))}
    assert expected == reasons.keys()
    assert all(reasons.values())
    assert reasons["binary.txt"] == "binary data, not text"
    assert reasons["gone.txt"] == "No such file or directory"
    assert [1 + len(expected), 1, 0, len(expected), 0] == summary(lines)
    assert table(lines)["good.txt"] == (1, 1, 1, "of 1")


UNPRIVILEGED = """
import ctypes, os, sys
for right_to_read_everything in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: only root has them to give up
    ctypes.CDLL(None).prctl(24, right_to_read_everything, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_forbidden_files_and_folders_are_listed(run_python: RunPython, root: Path, tmp_path: Path) -> None:
    """Files that the user may not read are listed too."""
    (tmp_path / "good.txt").write_text("of")
    (tmp_path / "secret.txt").write_text("of")
    (tmp_path / "closed").mkdir()
    (tmp_path / "secret.txt").chmod(0)
    (tmp_path / "closed").chmod(0)

    done = run_python("-c", UNPRIVILEGED, root / "examples" / "text_pipeline.py", tmp_path)
    (tmp_path / "closed").chmod(0o700)

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    denied = [f"{tmp_path / name}: Permission denied" for name in ("closed", "secret.txt")]
    assert denied == section(lines, "Skipped:")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text there")
def test_a_name_that_is_no_text_can_be_reported(output_of: OutputOf, tmp_path: Path) -> None:
    """The report shows an undecodable file name with escapes."""
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("of")

    assert table(output_of("text_pipeline", tmp_path))[r"\udcff.txt"] == (1, 1, 1, "of 1")


def test_without_a_folder_it_reads_what_python_brought(output_of: OutputOf) -> None:
    """The sums agree, and one module's numbers equal those of an independent count."""
    lines = output_of("text_pipeline", "--top", "100000")
    rows = table(lines)
    total = rows.pop("all books")
    found, counted, _, skipped, _ = summary(lines)

    assert tuple(map(sum, zip(*(row[:3] for row in rows.values()), strict=True))) == total[:3]
    assert counted == total[0]
    assert found == counted + skipped
    assert len(section(lines, "Skipped:")) == skipped
    assert any(name.startswith("pluggy-") for name in rows)  # its licence

    code = Path(sysconfig.get_paths()["stdlib"], "textwrap.py").read_text(encoding="utf-8")
    nodes = [
        node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    letters = [
        char if char.isalpha() or char in "'-" else " " for node in nodes for char in f" {ast.get_docstring(node)}"
    ]
    words = [word.strip("'-") for word in "".join(letters).lower().split()]
    assert sum(word == "of" for word in words) > 5
    assert f"of {sum(word == 'of' for word in words)}" in rows["textwrap"][3].split(", ")


def test_a_reader_may_stop_reading(root: Path, tmp_path: Path) -> None:
    """A reader that closes the pipe, like `head`, causes no error."""
    (tmp_path / "a.txt").write_text("of")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(root / "examples" / "text_pipeline.py"), str(tmp_path)]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=100, check=False)
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (0, b"")


# what it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "not a folder: 'nowhere'"),
        (["file.txt"], "not a folder: 'file.txt'"),
        ([""], "not a folder: ''"),
        ([".", "--top", "0"], "--top must be 1 or more, not 0"),
        ([".", "--top", "-3"], "--top must be 1 or more, not -3"),
        ([".", "--top", "many"], "argument --top: invalid int value: 'many'"),
        ([".", "."], "unrecognized arguments: ."),
        (["--bottom", "3"], "unrecognized arguments: --bottom"),
    ],
)
def test_a_wrong_argument_is_named(run_example: RunPython, tmp_path: Path, arguments: list[str], message: str) -> None:
    """A usage error prints its message and counts nothing."""
    (tmp_path / "file.txt").write_text("of")

    done = run_example("text_pipeline", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_texts_is_no_success(run_example: RunPython, tmp_path: Path) -> None:
    """Without text files it prints a message and exits with code 1."""
    (tmp_path / "photo.png").write_bytes(b"")

    done = run_example("text_pipeline", tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no text files found\n")


# what is retried


@pytest.fixture
def pipeline(root: Path) -> Iterator[ModuleType]:
    """Import the example as a module."""
    spec = importlib.util.spec_from_file_location("text_pipeline", root / "examples" / "text_pipeline.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Drive:
    """A drive whose first reads fail."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.error = error
        self.failures = failures
        self.calls = 0

    def read(self, path: Path) -> tuple[str, str]:
        """Return the file's text as UTF-8."""
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return path.read_text(encoding="utf-8"), "utf-8"


@pytest.mark.parametrize(
    ("error", "failures", "calls", "skipped"),
    [
        (OSError(5, "Input/output error"), 2, 3, None),
        (OSError(5, "Input/output error"), 3, 3, "Input/output error"),
        (FileNotFoundError(2, "No such file"), 1, 1, "No such file"),
        (ValueError("odd"), 1, 1, "odd"),
        (MemoryError(), 1, 1, "MemoryError"),
    ],
)
async def test_reading_is_retried_while_it_may_help(
    pipeline: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Exception,
    failures: int,
    calls: int,
    skipped: str | None,
) -> None:
    """A temporary error is retried twice; after that, or after a permanent error, the file is listed and skipped."""
    drive = Drive(error, failures)
    monkeypatch.setattr(pipeline, "read_text", drive.read)
    (tmp_path / "a.txt").write_text("of")
    async with Kernel(clock=VirtualClock()) as kernel:
        result = await kernel.run(pipeline.flow, {"folder": str(tmp_path)})

    data: dict[str, Any] = result.data
    assert calls == drive.calls
    assert pipeline.State.DONE is result.state
    assert ([] if skipped is None else [f"{tmp_path / 'a.txt'}: {skipped}"]) == data["skipped"]
    assert (0 if skipped else 1) == sum(book.files for book in data["ranking"])


async def test_a_mistake_in_the_program_is_no_fault_of_a_file(
    pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A programming error fails the run instead of emptying the report."""
    monkeypatch.setattr(pipeline, "read_text", Drive(AttributeError("misspelled"), 1).read)
    (tmp_path / "a.txt").write_text("of")
    async with Kernel() as kernel:
        with pytest.raises(TaskError, match="misspelled"):
            await kernel.run(pipeline.flow, {"folder": str(tmp_path)})


async def test_nothing_is_left_of_the_work(pipeline: ModuleType, tmp_path: Path) -> None:
    """At the end the data contains the report's input, but no text and no queue."""
    (tmp_path / "a.txt").write_text("of")
    (tmp_path / "z.py").write_text("def (:")
    async with Kernel() as kernel:
        result = await kernel.run(pipeline.flow, {"folder": str(tmp_path)})

    expected = {"folder", "found", "passed over", "done", "ranking", "odd encodings", "skipped"}
    assert expected == result.data.keys()
