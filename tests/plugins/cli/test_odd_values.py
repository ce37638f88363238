"""Odd values at every option and argument of every command: an answer or an error in words, and never a traceback."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import cano_cli.worker
import click
import pytest
from cano_cli.commands import add_plugin_commands
from cano_cli.main import make_app
from cano_cli.settings import Settings
from click.testing import Result

VALUES = [
    "nan", "/", "-1", "x" * 300 + ".py:flow", "inf", "..:flow", "", "sqlite:///" + "x" * 300, "9" * 400, "\udcff", "0",
    "/:flow", "1e400", "a\nb", "x/" * 3000 + "a.py:flow", "redis://x:y:z", "\u0661", "a:", "{", "http://[", "1_000",
    "sqlite:///", "%00", "flows:State", "memory://", ".py", "-inf", ":a", "=", "os:environ", "/dev/null",
]  # fmt: skip
"""Each parameter gets one of them, and each of them several parameters."""
GIVEN = {"seq": "1", "url": "sqlite:///runs.db", "source": "sqlite:///runs.db", "target": "sqlite:///other.db"}
"""Right values of required arguments. Any other is the id of a run or the name of a signal."""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Return every command with its path."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            imported = inner.make_context(name, [], resilient_parsing=True).command
            yield from commands(imported, (*path, name))
    else:
        yield path, command


APP = make_app()
add_plugin_commands(APP, Settings().plugins(), pytest.fail)
PARAMETERS = [
    (path, command, parameter)
    for path, command in commands(APP)
    for parameter in command.params
    if not (isinstance(parameter, click.Option) and parameter.is_flag)
]


@pytest.fixture(scope="module")
def values() -> Iterator[str]:
    """The values, again and again."""
    return itertools.cycle(VALUES)


@pytest.mark.parametrize(
    ("path", "command", "parameter"), PARAMETERS, ids=[f"{' '.join(path)} {each.name}" for path, _, each in PARAMETERS]
)
def test_odd_values(
    cano: Callable[..., Result], store: str, values: Iterator[str], path: tuple[str, ...], command: click.Command,
    parameter: click.Parameter, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A command refuses an odd value of an option or an argument in words, or takes it."""
    monkeypatch.setattr(cano_cli.worker, "_stop_at_signals", asyncio.Event.set)  # a worker that takes it ends at once
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    odd = next(values)
    given = ["flows:flow" if "FLOW" in (each.metavar or "") else GIVEN.get(str(each.name), "r") for each in arguments]
    if isinstance(parameter, click.Argument):
        given[arguments.index(parameter)] = odd
        result = cano(*path, "--", *given)
    else:
        result = cano(*path, f"{parameter.opts[0]}={odd}", *given)
    assert "Traceback" not in result.output
    assert result.exit_code in (0, 1, 2), (odd, result.output)


def test_every_command_prints_json() -> None:
    """Every command, also of plugins and of groups, has the option --json."""
    without = [
        " ".join(path)
        for path, command in commands(APP)
        if not any("--json" in option.opts for option in command.params)
    ]
    assert without == []


@pytest.mark.parametrize("odd", VALUES)
def test_odd_targets(cano: Callable[..., Result], odd: str) -> None:
    """What names no workflow, or no scheduler, is refused in words."""
    for command in (["graph"], ["schedule", "run"]):
        result = cano(*command, "--", odd)
        assert (result.exit_code, "Traceback" in result.output) == (2, False), result.output


@pytest.mark.parametrize("odd", ["nan", "inf", "-1", "0", "1e400", "x"])
def test_odd_durations(cano: Callable[..., Result], store: str, odd: str) -> None:
    """A duration is a positive and finite number of seconds, whatever the command."""
    for command in (
        ["run", "flows:flow", "--timeout"], ["run", "flows:flow", "--lease"],
        ["resume", "flows:flow", "r", "--lease"], ["recover", "flows:flow", "--lease"], ["prune", "--max-age"],
        ["migrate-store", store, "sqlite:///other.db", "--lease"], ["bench-store", store, "--seconds"],
    ):  # fmt: skip
        result = cano(*command, odd)
        assert result.exit_code == 2, (command, result.output)
        assert "second" in result.output or "not a valid float" in result.output
    assert not Path("other.db").exists()
