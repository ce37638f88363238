"""MODULE:FLOW: how a workflow is found, and what is said where it is not."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from cano_cli.errors import CliError
from cano_cli.loading import load_flow

Write = Callable[[str, str], Path]

FLOW = """
    from cano import Workflow, task

    def make(name):
        return Workflow("a", name=name).register("a", task(lambda store: "b")).add_exit_state("b")
"""


def refused(target: str) -> str:
    """The message of the error that loading `target` raises."""
    with pytest.raises(CliError) as caught:
        load_flow(target)
    assert caught.value.exit_code == 2
    return caught.value.message


@pytest.mark.parametrize(
    "target", ["flows:flow", "flows:build", "flows", "flows.py:flow", "flows.py", "./flows.py:build"]
)
def test_found(target: str) -> None:
    """By module or by file, with a workflow's name, a function's that makes it, or none."""
    assert load_flow(target).name == "pages"


def test_absolute_path(project: Path) -> None:
    """A path may be absolute."""
    assert load_flow(f"{project}/flows.py:flow").name == "pages"


def test_attribute_path(write: Write) -> None:
    """FLOW may be an attribute of an attribute."""
    write("deep.py", FLOW + "\n    class Flows:\n        class Inner:\n            main = make('inner')\n")

    assert load_flow("deep:Flows.Inner.main").name == "inner"


def test_one_workflow_of_two_names(write: Write) -> None:
    """A workflow that a module knows by two names is still its only one."""
    write("alias.py", FLOW + "\n    one = other = make('same')\n")

    assert load_flow("alias").name == "same"


def test_beside_the_file(write: Write, project: Path) -> None:
    """A file finds the modules beside it."""
    write("apps/helper.py", FLOW)
    write("apps/main.py", "from helper import make\nflow = make('helped')\n")

    assert load_flow("apps/main.py").name == "helped"


def test_a_file_imports_nothing_from_the_current_directory(write: Write, project: Path) -> None:
    """A file in another folder does not import a module from the current directory."""
    write("optional_speedups.py", "open('executed', 'w')\n")
    source = "try:\n    import optional_speedups\nexcept ImportError:\n    pass\n"
    write("apps/main.py", source + textwrap.dedent(FLOW) + "flow = make('alone')\n")

    assert load_flow("apps/main.py").name == "alone"
    assert not (project / "executed").exists()


def test_file_of_a_package(write: Write) -> None:
    """A file that lies in a package is imported as a part of it: relative imports work."""
    write("shop/__init__.py", "")
    write("shop/sub/__init__.py", "from .orders import make\nflow = make('of the package')\n")
    write("shop/sub/orders.py", FLOW + "\n    from . import __name__ as parent\n    flow = make(parent)\n")

    assert load_flow("shop/sub/orders.py:flow").name == "shop.sub"
    assert load_flow("shop.sub.orders:flow").name == "shop.sub"
    assert load_flow("shop/sub/__init__.py:flow").name == "of the package"


def test_file_with_a_dash(write: Write) -> None:
    """A file need not have the name of a module."""
    write("my-flow.py", FLOW + "\n    flow = make('dashed')\n")

    assert load_flow("my-flow.py:flow").name == "dashed"


def test_current_directory_is_searched_first(write: Write) -> None:
    """What lies in the current directory goes before what was there already."""
    write("wave.py", FLOW + "\n    flow = make('mine')\n")

    assert load_flow("wave:flow").name == "mine"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (":flow", "':flow': the module is missing; expected MODULE:FLOW, such as flows:main or flows.py:main"),
        ("flows:", "'flows:': '' after the colon is not a name; expected MODULE:FLOW"),
        ("flows:a-b", "'flows:a-b': 'a-b' after the colon is not a name; expected MODULE:FLOW"),
        ("a b:flow", "'a b' is not a module name; expected MODULE:FLOW, such as flows:main or flows.py:main"),
        ("flow:flow", "there is no module 'flow' in {cwd} or in the environment of this command; did you mean flows?"),
        ("main:flow", "there is no module 'main' in {cwd} or in the environment of this command; "
         "did you mean apps/main.py?"),
        ("zzz:flow", "there is no module 'zzz' in {cwd} or in the environment of this command; "
         "for a file, give its path with .py"),
        ("flows.flow", "there is no module 'flows.flow': 'flows' is a module, not a package; "
         "put a colon before a workflow's name"),
        ("nowhere.flows:flow", "there is no module 'nowhere' (for 'nowhere.flows') in {cwd} or in the environment of "
         "this command; for a file, give its path with .py"),
        ("shop.order:flow", "there is no module 'shop.order'; did you mean orders?"),
        ("flow.py:flow", "'flow.py' does not exist; did you mean flows.py?"),
        ("apps/main:flow", "'apps/main' does not exist; did you mean apps/main.py?"),
        ("app/main.py:flow", "'app/main.py' does not exist: there is no directory app"),
        ("./apps:flow", "'./apps' is a directory; expected a module name or the path of a .py file"),
        ("./notes.txt:flow", "'./notes.txt' is not a .py file; expected a module name or the path of a .py file"),
        ("C:\\flows.py", "'C:\\\\flows.py' does not exist"),
        ("a.b.py:flow", "'a.b.py' cannot be imported: a module name cannot contain a dot; rename the file"),
        ("sys.py:flow", "'sys.py' cannot be imported: another module is named 'sys' (one that is built into Python); "
         "rename the file"),
    ],
)  # fmt: skip
def test_no_module(target: str, message: str, write: Write, project: Path) -> None:
    """The message says what was looked for, and what may have been meant."""
    write("apps/main.py", "")
    write("shop/__init__.py", "")
    write("shop/orders.py", "")
    write("notes.txt", "")
    write("a.b.py", "")
    write("sys.py", "")

    found = refused(target)

    assert found == message.format(cwd=project) or (target.startswith("C:") and found.startswith(message))


def test_file_that_another_module_hides(write: Write, project: Path) -> None:
    """A file whose name another module has taken is not confused with it."""
    import json

    write("json.py", "")

    assert refused("json.py:flow") == (
        f"'json.py' cannot be imported: another module is named 'json' ({json.__file__}); rename the file"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\ny = 1 / 0\n", "ZeroDivisionError: division by zero\n  at bad.py:2 in <module>: y = 1 / 0"),
        ("def broken(:\n", "SyntaxError: invalid syntax (bad.py, line 1)\n  at bad.py:1: def broken(:"),
        ("import json\njson.loads('[')\n", "JSONDecodeError: Expecting value: line 1 column 2 (char 1)\n"
         "  at bad.py:2 in <module>: json.loads('[')"),
        ("import flows_of_nobody\n", "ModuleNotFoundError: No module named 'flows_of_nobody'\n"
         "  at bad.py:1 in <module>: import flows_of_nobody\n"
         "  Install the missing module into the environment of this command, or correct the import."),
        ("from flows import nothing\n", "ImportError: cannot import name 'nothing' from 'flows' ({cwd}/flows.py)\n"
         "  at bad.py:1 in <module>: from flows import nothing"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["bad", "bad.py"])
def test_module_that_raises(where: str, code: str, message: str, write: Write, project: Path) -> None:
    """A module that cannot be imported is told with its error and the line."""
    write("bad.py", code)

    assert refused(f"{where}:flow") == f"module {where!r} cannot be imported: {message.format(cwd=project)}"


def test_module_that_exits(write: Write) -> None:
    """A script that ends the process on import does not end the command."""
    write("script.py", "import sys\nsys.exit(0)\n")

    assert refused("script") == (
        "module 'script' called sys.exit(0) on import; move the script's code below `if __name__ == \"__main__\":`"
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("many:Flow", "there is no 'Flow' in 'many'; did you mean flow?\nWorkflows in it:\n  many:flow\n  many:other"),
        ("many:zzz", "there is no 'zzz' in 'many'\nWorkflows in it:\n  many:flow\n  many:other"),
        ("many:Group.zzz", "there is no 'zzz' in 'many:Group'\nWorkflows in it:\n  many:Group.flow"),
        ("many:number.zzz", "there is no 'zzz' in 'many:number'"),
        ("none:zzz", "there is no 'zzz' in 'none'\nIt has no workflow."),
        ("none:mak", "there is no 'mak' in 'none'; did you mean make?\nIt has no workflow."),
        ("many", "there are 2 workflows in module 'many'; name one of them:\n  many:flow\n  many:other"),
        ("many.py", "there are 2 workflows in module 'many.py'; name one of them:\n  many.py:flow\n  many.py:other"),
        ("none", "there is no workflow in module 'none'; name a function that returns one: none:FUNCTION"),
        ("many:number", "'many:number' is of type int, not a workflow; EXPECTED"),
        ("many:Workflow", "'many:Workflow' is the class Workflow and takes arguments; EXPECTED"),
        ("many:make", "'many:make' is of type function and takes arguments; EXPECTED"),
        ("many:step", "'many:step' is of type FunctionTask, not a workflow; EXPECTED"),
        ("many:later", "'many:later' is async; EXPECTED"),
        ("many:nothing", "many:nothing() returned an object of type NoneType; EXPECTED"),
        ("many:raises", "many:raises() raised KeyError: 'x'\n  at many.py:21 in raises: return {}['x']"),
        ("many:exits", "many:exits() raised SystemExit: 3\n  at many.py:23 in exits: raise SystemExit(3)"),
        ("many:lazy.flow", "reading 'flow' of 'many:lazy' raised ValueError: not now"),
    ],
)  # fmt: skip
def test_no_workflow(target: str, message: str, write: Write) -> None:
    """What there is instead is told, and which workflows there are."""
    expected = "expected a Workflow, or a function without arguments that returns one"
    write("none.py", "def make(x): ...\n")
    write(
        "many.py",
        FLOW
        + """
    class Group:
        flow = make("in a class")

    number = 5
    flow = make("one")
    other = make("two")
    step = task(lambda store: "b")

    async def later():
        return flow

    def nothing(): ...

    def raises():
        return {}['x']
    def exits():
        raise SystemExit(3)

    class Lazy:
        @property
        def flow(self):
            raise ValueError("not now")

    lazy = Lazy()
""",
    )

    assert refused(target) == message.replace("EXPECTED", expected)


def test_nothing_is_put_on_the_path_twice(project: Path) -> None:
    """Loading again leaves the path as it is."""
    load_flow("flows.py:flow")
    before = [*sys.path]

    load_flow("flows:flow")
    load_flow("flows.py:flow")

    assert sys.path == before
