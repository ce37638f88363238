"""The counts do not depend on the number of branches."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.servers.ray import require_ray

OutputOf = Callable[..., list[str]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("parts", [None, 1, 2, 7, 100])
def test_counts_are_those_of_the_texts(output_of: OutputOf, tmp_path: Path, parts: int | None) -> None:
    """Every word of text files and of Python's docstrings counts; case makes no difference."""
    random = Random(3)
    expected: Counter[str] = Counter()
    for number in range(40):
        words = random.choices(["tree", "House", "don't", "être", "ПРИВЕТ"], k=random.randrange(50))
        (tmp_path / f"{number}.{random.choice(['txt', 'md', 'rst'])}").write_text(" ".join(words), encoding="utf-8")
        expected.update(word.casefold() for word in words)
    (tmp_path / "code.py").write_text('"""Tree of trees."""\ntree = 1  # tree\n')
    (tmp_path / "LICENSE").write_text("tree 2024")
    (tmp_path / "data.csv").write_text("tree")
    (tmp_path / "broken.py").write_text("def tree(")
    (tmp_path / "binary.txt").write_bytes(b"tree \xff")
    expected.update(["tree", "of", "trees", "tree"])

    arguments = [] if parts is None else ["--parts", str(parts)]
    first, *lines = output_of("word_count_map_reduce", tmp_path, "--top", "4", *arguments)

    assert first == f"42 texts, {expected.total()} words, {len(expected)} different ones"
    ranked = sorted(expected.items(), key=lambda item: (-item[1], item[0]))
    assert [line.split() for line in lines[:4]] == [[str(times), word] for word, times in ranked[:4]]
    assert lines[4:] == [
        f"unreadable: {tmp_path / 'binary.txt'}: UnicodeDecodeError",
        f"unreadable: {tmp_path / 'broken.py'}: SyntaxError",
    ]


def test_nothing_to_count(output_of: OutputOf, tmp_path: Path) -> None:
    """Without texts there are no branches and no words."""
    assert output_of("word_count_map_reduce", tmp_path) == ["0 texts, 0 words, 0 different ones"]


@pytest.mark.parametrize("executor", ["process://?workers=2", "dask://local?workers=1", "ray://local?workers=1"])
def test_counts_of_other_processes(
    output_of: OutputOf, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    executor: str,
) -> None:  # fmt: skip
    """The same program counts in other processes, prints the same, and leaves no file in the user's folder."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    if executor.startswith("ray"):
        require_ray()
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("the tree " * number)
    (tmp_path / "binary.txt").write_bytes(b"tree \xff")

    here = output_of("word_count_map_reduce", tmp_path, "--parts", "3")
    assert output_of("word_count_map_reduce", tmp_path, "--parts", "3", "--executor", executor) == here
    assert not (home / ".ray").exists()


def test_what_came_with_python(output_of: OutputOf) -> None:
    """Python's own texts, distributed in two ways."""
    one, eight = (output_of("word_count_map_reduce", "--parts", parts) for parts in ("1", "8"))

    assert one == eight
    texts, words, different = map(int, re.findall(r"\d+", one[0]))
    assert texts > 100
    assert words > 50_000
    assert 1000 < different < words
    assert one[1].split()[1] == "the"
    counts = [int(line.split()[0]) for line in one[1:11]]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("arguments", [["--parts", "0"], ["nowhere"]])
def test_wrong_arguments(run_example: RunPython, arguments: list[str]) -> None:
    """Wrong arguments are usage errors."""
    done = run_example("word_count_map_reduce", *arguments)

    assert done.returncode == 2
    assert "error:" in done.stderr
