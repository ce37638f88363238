"""The words of docstrings, comments and messages: terms in place of riddles, and first words that say what it is."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = [
    ROOT / "kernel" / "cano",
    *(path.parent for path in sorted(ROOT.glob("plugins/*/cano_*/__init__.py"))),
    ROOT / "examples",
]
FILES = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py")) if "tests" not in path.parts]

WORDS = {
    r"some(?:body|one)|anybody|nobody|no one|who(?:m|so)?ever": "the actor: a kernel, a task, another process",
    r"makes? no sense": "a usage error",
    r"(?<!there )(?:is|are|was|were|be) no(?! longer| more)": "is not a",
    r"laps(?:es?|ed|ing)": "expire",
    r"forg(?:ets?|ot|otten|etting)": "delete or discard",
    r"anew": "again",
    r"told|hears?|heard": "notify, report or request",
    r"go(?:es)? on": "continue or resume",
    r"driv(?:es|ing|en)|drove": "execute",
    r"damaged": "corrupt",
}
"""Words and phrases that stay out, as patterns, each with what to write in their place."""

QUESTIONS = {"What", "Whether", "How", "Why", "Where", "Which", "Who"}
ARTICLES = {"A", "An", "The", "All", "Every"}

ALLOWED = {
    ("examples/order_processing.py", "damaged"): "it is the pieces of an order that are damaged, not a record",
}
"""Honest uses: a file and a word in it, with the reason."""


class Finding(NamedTuple):
    """A word that should not be there, with its line and what to write in its place."""

    line: int
    word: str
    write: str


def texts(source: str) -> Iterator[tuple[int, str]]:
    """The string literals, docstrings included, and the comments of a module, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def banned_words(source: str) -> Iterator[Finding]:
    """The banned words of a module. Names between backticks are not prose."""
    for line, text in texts(source):
        prose = re.sub(r"`[^`]*`", "", text)
        for pattern, write in WORDS.items():
            for found in re.finditer(rf"\b(?:{pattern})\b", prose, re.IGNORECASE):
                yield Finding(line, " ".join(found[0].lower().split()), write)


def wrong_beginnings(source: str) -> Iterator[Finding]:
    """The docstrings that begin with a question, and those of functions that begin with an article.

    A property is named for its value, so it may begin with an article; a bool one may begin with "Whether". So may a
    clause of a contract, which is a sentence.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        wrong, write = QUESTIONS, "a noun"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_") or any("property" in ast.unparse(mark) for mark in node.decorator_list):
                wrong = QUESTIONS - {"Whether"}
            else:
                wrong, write = QUESTIONS | ARTICLES, "a verb, such as Return"
        first, *_ = (ast.get_docstring(node) or "-").split()
        if first in wrong:
            yield Finding(getattr(node, "lineno", 1), first, write)


def test_words_are_terms() -> None:
    """No docstring, comment or string literal has a banned word, and no docstring a wrong first word.

    Only allowed ones are there, and each of them is.
    """
    found = {
        (path.relative_to(ROOT).as_posix(), finding)
        for path in FILES
        for check in (banned_words, wrong_beginnings)
        for finding in check(path.read_text(encoding="utf-8"))
    }

    wrong = [(file, finding) for file, finding in found if (file, finding.word) not in ALLOWED]
    assert [f"{file}:{line}: {word!r}; write {write}" for file, (line, word, write) in sorted(wrong)] == []
    assert ALLOWED.keys() == ALLOWED.keys() & {(file, finding.word) for file, finding in found}


SAMPLE = '''"""What it is."""


def f(x):
    """The value."""
    # nobody, whoever; `told` is a name here
    return f"{x} is no number, and there is no other; the lease has lapsed"


class C:
    """A class."""

    @property
    def p(self):
        """Whether it is."""

    def m(self):
        """Whether it is."""

    def test_clause(self):
        """A clause goes on."""
'''


def test_banned_words_are_found() -> None:
    """Words are found in docstrings, in comments and in parts of f-strings, but not between backticks."""
    assert sorted((line, word) for line, word, _ in banned_words(SAMPLE)) == [
        (6, "nobody"), (6, "whoever"), (7, "is no"), (7, "lapsed"), (21, "goes on"),
    ]  # fmt: skip


def test_wrong_beginnings_are_found() -> None:
    """Questions are wrong, except for a bool property; articles are wrong for functions only."""
    assert sorted((line, word) for line, word, _ in wrong_beginnings(SAMPLE)) == [
        (1, "What"),
        (4, "The"),
        (17, "Whether"),
    ]
