"""No test waits for another task, thread or process by a pause or a fixed number of turns of the event loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
FILES = [path for path in sorted(HERE.rglob("*.py")) if not path.is_relative_to(HERE / "benchmarks")]
"""All but the benchmarks, which measure time."""

A_CHANCE = "what must not happen would happen in these turns, so it cannot fail falsely"
SLOW = "a call that takes its time: others have their turn"
POLLS = "no event reports how far another process is: a loop asks for that, for up to a minute"

ALLOWED = {
    ("acceptance/durability/sleepers.py", "Worker.work"): "a task that takes its time, in a process of its own",
    ("acceptance/durability/sleepers.py", "slow.slowly"): "a claim that takes its time, in a process of its own",
    ("acceptance/durability/test_all_at_once.py", "stop"): "how long a process is stopped",
    ("acceptance/durability/test_held_calls.py", "test_a_start_in_a_kernel_that_closes"): A_CHANCE,
    ("kernel/concurrency/test_cancellation.py", "test_some_turn_is_late_enough"): "it counts the turns",
    ("kernel/concurrency/test_lent_slots.py", "test_a_state_keeps_its_slot_until_its_step_is_committed.Slow.commit"): (
        SLOW
    ),
    ("kernel/runtime/test_timeouts_threads.py", "test_virtual_time_waits_for_threads"): A_CHANCE,
    ("kernel/testing/test_contract.py", "late.later"): SLOW,
    ("kernel/testing/test_contract_server.py", "Insists.call.later"): SLOW,
    ("plugins/cli/test_bench_store.py", "test_ctrl_c_leaves_nothing"): POLLS,
    ("plugins/cli/test_migrate_store.py", "test_killed_at_ten_moments"): POLLS,
    ("plugins/sqlite/test_writing.py", "test_a_renewal_waits_for_the_lock_with_short_pauses.watched"): (
        "it stands in for `time.sleep`"
    ),
    ("plugins/sqlite/test_writing.py", "test_a_cancelled_write_that_has_begun_is_awaited"): A_CHANCE,
    ("plugins/sqlite/test_writing.py", "test_a_write_that_is_cancelled_while_its_turn_is_tried"): A_CHANCE,
    ("servers/postgres.py", "PostgresServer.kill"): POLLS,
    ("servers/postgres.py", "PostgresServer.start"): POLLS,
    ("servers/redis.py", "RedisServer.start"): POLLS,
}
"""Functions that may pause or count turns, with the reason."""

ANYWHERE = {"kernel/testing/test_virtual_clock.py": "its subject is when time passes: after how many turns"}
"""Files in which all functions may, with the reason."""


class Wait(NamedTuple):
    """A pause, or a fixed number of turns, with its line and the function that contains it."""

    line: int
    function: str
    what: str


def waits(source: str) -> Iterator[Wait]:
    """The pauses of a module, its loops that only let others run a fixed number of times, and calls of such loops."""
    tree = ast.parse(source)
    counting = {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and _counts(node)}
    yield from _waits(tree, "", counting)


def _waits(node: ast.AST, function: str, counting: set[str]) -> Iterator[Wait]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _waits(child, f"{function}.{child.name}".lstrip("."), counting)
            continue
        if isinstance(child, ast.Call):
            if _is_sleep(child) and not _is_zero(child):
                yield Wait(child.lineno, function, "a pause")
            elif ast.unparse(child.func) in counting and _is_constant(child):
                yield Wait(child.lineno, function, "a fixed number of turns")
        elif isinstance(child, ast.For) and _only_turns(child) and _is_constant(child.iter):
            yield Wait(child.lineno, function, "a fixed number of turns")
        yield from _waits(child, function, counting)


def _is_sleep(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("asyncio.sleep", "time.sleep", "sleep")


def _is_zero(sleep: ast.Call) -> bool:
    return [ast.unparse(argument) for argument in sleep.args] == ["0"]


def _only_turns(loop: ast.For) -> bool:
    """Whether the loop does nothing but let others run, and perhaps look whether something has happened."""
    rest = [node for node in loop.body if not isinstance(node, ast.If | ast.Pass)]
    return bool(rest) and all(_is_sleep(getattr(getattr(node, "value", None), "value", node)) for node in rest)


def _is_constant(call: ast.AST) -> bool:
    """Whether the arguments are numbers, names of the module's constants included."""
    return isinstance(call, ast.Call) and all(
        isinstance(argument, ast.Constant) or (isinstance(argument, ast.Name) and argument.id.isupper())
        for argument in call.args
    )


def _counts(function: ast.AsyncFunctionDef) -> bool:
    """Whether its body has such a loop, with a number of turns that the caller gives."""
    given = {argument.arg for argument in function.args.args}
    loops = [node for node in function.body if isinstance(node, ast.For) and _only_turns(node)]
    return any(isinstance(node, ast.Name) and node.id in given for loop in loops for node in ast.walk(loop.iter))


def test_tests_wait_for_events() -> None:
    """A busy machine needs any number of turns, and any time: a test waits for an event, or for `until`.

    Only allowed functions have other waits, and each of them has one.
    """
    found = {
        (path.relative_to(HERE).as_posix(), wait) for path in FILES for wait in waits(path.read_text(encoding="utf-8"))
    }

    wrong = [each for each in found if each[0] not in ANYWHERE and (each[0], each[1].function) not in ALLOWED]
    assert [f"{file}:{line}: {what} in {function}" for file, (line, function, what) in sorted(wrong)] == []
    assert ALLOWED.keys() == ALLOWED.keys() & {(file, wait.function) for file, wait in found}
    assert ANYWHERE.keys() <= {file for file, _ in found}


SAMPLE = """
async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)

async def until(met):
    for _ in range(100_000):
        if met():
            return
        await asyncio.sleep(0)

class Test:
    async def test(self):
        async def inside():
            for _ in range(TURNS):
                await asyncio.sleep(0)
        await turns(5)
        await asyncio.sleep(0)
        time.sleep(0.1)
        while not self.ready:
            await asyncio.sleep(0.01)

async def test_all_moments():
    for moment in range(10):
        await turns(moment)
        for _ in range(moment):
            await asyncio.sleep(0)
        await clock.sleep(5)
    for _ in range(3):
        work()
        await asyncio.sleep(0)
"""


def test_waits_are_found() -> None:
    """Turns are counted in loops and in calls; a varying number, a loop that works, and virtual time are allowed."""
    assert list(waits(SAMPLE)) == [
        (7, "until", "a fixed number of turns"),
        (15, "Test.test.inside", "a fixed number of turns"),
        (17, "Test.test", "a fixed number of turns"),
        (19, "Test.test", "a pause"),
        (21, "Test.test", "a pause"),
    ]
