"""The kernel's rooms: how large each may be, that no module is part of a new import cycle, and one class to a file."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import cano
import cano_durability

HERE = Path(cano.__file__).parent
FILES = sorted(path for path in HERE.rglob("*.py") if "testing" not in path.relative_to(HERE).parts)

BUDGETS = {
    "": 1_940,  # the top floor: hooks, protocols, records, errors, options
    "data": 587,
    "model": 934,
    "engine": 1_800,
    "runtime": 293,
    "concurrency": 718,
    "plugins": 518,
    "kernel": 977,
}
"""Lines of code that all files of a room may have together. CONTRIBUTING.md has the reasons."""
DURABILITY = {
    "": 2_370, "admission": 140, "batches": 419, "bulk": 141, "carrying": 344, "deploying": 193, "families": 95,
    "inspection": 736, "lateness": 302,
    "looking": 144, "outbox": 84, "recovery": 672, "run_files": 404, "sealing": 890, "searching": 142,
    "selecting": 361, "streaming": 693, "transacting": 138, "stores": 195, "submitting": 88,
}  # fmt: skip
"""The budgets of cano-durability, which was a room of the kernel once, and of its own rooms."""

EXCEPTIONS = {
    ("cano.model.workflow", "cano.kernel.default"),
    ("cano.concurrency.batch", "cano.kernel.default"),
}
"""The only imports that go up: `Workflow.orchestrate` and batches use the default kernel, the shortest way in."""


def module(path: Path) -> str:
    """The dotted name of a file of the kernel."""
    parts = ("cano", *path.relative_to(HERE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(path: Path) -> str:
    """The room that a file is in; "" is the top floor."""
    return path.parent.relative_to(HERE).as_posix().removeprefix(".")


# size


def lines_of_code(path: Path) -> int:
    """Lines that are neither blank, nor a comment, nor part of a docstring."""
    text = path.read_text(encoding="utf-8")
    counted: set[int] = set()
    nothing = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in nothing:
            counted.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            counted.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(counted)


def test_lines_of_code_are_counted_right(tmp_path: Path) -> None:
    """Blank lines, comments and docstrings do not count; a string that is a value does."""
    path = tmp_path / "sample.py"
    path.write_text(
        '"""Doc\n\nstring."""\n\n# comment\nx = """a\nb"""\n\n\ndef f():\n    """Doc."""\n    return x  # why\n'
    )

    assert lines_of_code(path) == 4


def test_every_room_stays_within_its_budget() -> None:
    """A room has at most its budget of code lines. A file in a new room needs a budget for that room."""
    sizes = dict.fromkeys(BUDGETS, 0)
    for path in FILES:
        sizes[room(path)] += lines_of_code(path)

    assert {name: size for name, size in sizes.items() if size > BUDGETS[name]} == {}


def test_durability_stays_within_its_budget() -> None:
    """Keeping runs in a store stays as small as a room, and each of its own rooms smaller than that."""
    folder = Path(cano_durability.__file__).parent
    rooms = {path.parent.relative_to(folder).as_posix().removeprefix(".") for path in folder.rglob("*.py")}

    assert rooms == DURABILITY.keys()
    for name, budget in DURABILITY.items():
        assert sum(map(lines_of_code, (folder / name).glob("*.py"))) <= budget


LONG = {"cano.kernel.kernel", "cano.engine.run", "cano.errors"}
"""Files of one long class each, and the tree of errors: a class is one file, and that outranks the limit."""


def test_a_file_can_be_read_at_once() -> None:
    """No file of the kernel or its testing kit has more than 320 lines of code, or 400 lines in all."""
    long = {
        module(path): (lines_of_code(path), len(path.read_text(encoding="utf-8").splitlines()))
        for path in HERE.rglob("*.py")
    }

    assert {name for name, size in long.items() if size[0] > 320 or size[1] > 400} == LONG


# classes

BASES = {
    "Task", "Generic", "Protocol", "NamedTuple", "Enum", "Strand", "TypedStore", "StoreView", "KeyValueStore",
    "StoreBackend", "UserWarning", "Limit", "list", "tuple", "str", "islice", "ABC", "TypedDict",
}  # fmt: skip
"""What a class of the kernel may inherit from, beside the errors: interfaces, and the few real kinds-of."""


def classes(path: Path) -> dict[str, list[str]]:
    """The classes in a file, with the names of their bases."""
    return {
        node.name: [ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }


def test_no_class_is_cut_over_files_by_inheritance() -> None:
    """A class is one file: it inherits from an interface, from a class of its own file, or from a kind of thing."""
    foreign = [
        (name, base)
        for path in FILES
        for name, bases in classes(path).items()
        for base in bases
        if base not in BASES | classes(path).keys() and not base.endswith(("Error", "Exception"))
    ]

    assert foreign == []


# imports

CIRCLES: list[set[str]] = [
    # a run, its steps and its bound states refer to one another: the annotations say so
    {
        "cano.engine.attempts", "cano.engine.binding", "cano.engine.calls", "cano.engine.control",
        "cano.engine.limiter",
        "cano.engine.ports", "cano.engine.run", "cano.engine.step", "cano.engine.stopping",
        "cano.engine.strand",
    },
    # a handle and a listing call the kernel that made them, and hooks are given it
    {
        "cano.hookspecs", "cano.kernel.handles", "cano.kernel.kernel", "cano.kernel.resources", "cano.plugins.loading",
    },
    # a workflow's batch makes the batch in a store, which asks it for its kernel and limit
    {"cano.concurrency.batch", "cano.concurrency.durable"},
    # `Workflow.validate` and `Workflow.mermaid` call what is kept in files of its own, which takes a workflow
    {"cano.model.code_reading", "cano.model.drawing", "cano.model.validation", "cano.model.workflow"},
]  # fmt: skip
"""The import cycles that stay, annotations included; each with its reason."""


def imports(path: Path, known: set[str]) -> set[str]:
    """The kernel's modules that a file imports, also for type checkers only and inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & known or {node.module})
    return found & known


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules of which each imports, directly or not, every other of its set."""
    reach = {name: set(targets) for name, targets in graph.items()}
    for middle in graph:
        for targets in reach.values():
            if middle in targets:
                targets |= reach[middle]
    sets = {frozenset(other for other in graph if name in reach[other] and other in reach[name]) for name in graph}
    return sorted((set(found) for found in sets if len(found) > 1), key=sorted)


def test_circles_are_found() -> None:
    """Two modules that import each other, and those on the way around, are one circle; others are none."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}) == [{"a", "b", "c"}]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_there_is_no_new_circle() -> None:
    """Among the kernel's modules no import cycle is added, not even one of annotations or inside a room."""
    known = {module(path) for path in FILES}
    graph = {module(path): imports(path, known) for path in FILES}
    graph["cano"] = set()  # it re-exports everything, and what imports from it names a module instead
    for above, below in EXCEPTIONS:
        graph[above].discard(below)

    assert circles(graph) == sorted(CIRCLES, key=sorted)
