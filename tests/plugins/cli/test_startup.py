"""What the command imports before it does its work, and what it knows about commands that it has not imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from cano_cli.builtin import SUMMARIES, BuiltIn
from cano_cli.commands import add_plugin_commands
from cano_cli.durations import METAVAR
from cano_cli.main import make_app
from cano_cli.settings import Settings
from click.testing import CliRunner

PROGRAM = """
import json, sys
from cano_cli.main import main
try:
    main(sys.argv[1:])
finally:
    with open("imported.json", "w") as file:
        json.dump(sorted(sys.modules), file)
"""
NOOP = """
    import sys
    from cano import Workflow

    async def note(store):
        with open("first_step.txt", "w") as file:
            file.write(" ".join(sys.modules))
        return "done"

    flow = Workflow("note").register("note", note).add_exit_state("done")
"""
OF_THE_COMMAND = {
    f"cano_cli.{name}"
    for name in ("_plugin", "builtin", "commands", "durations", "errors", "main", "notices", "safe_lines", "settings")
}
OF_PLUGINS = {
    "cano_drawing._plugin", "cano_durability._plugin", "cano_encryption._plugin", "cano_encryption.cli",
    "cano_memory._plugin", "cano_msgspec._plugin", "cano_offload.cli",
    "cano_offload._plugin", "cano_otel.cli", "cano_otel.flush", "cano_otel.plugin", "cano_otel.providers",
    "cano_otel.settings", "cano_postgres._plugin", "cano_postgres.url", "cano_redis._plugin", "cano_redis.url",
    "cano_retry._plugin", "cano_scheduler._plugin", "cano_scheduler.hookspecs", "cano_sqlite._plugin",
    "cano_sqlite.url", "cano_structlog.events", "cano_structlog.failures", "cano_structlog.fields",
    "cano_structlog.observer", "cano_structlog.settings", "cano_structlog.stdlib", "cano_structlog.traces",
    "cano_structlog.bound", "cano_webhooks._plugin", "cano_zstd._plugin", "cano_process._plugin", "cano_remote._plugin",
    "cano_remote.hookspecs", "cano_dask._plugin", "cano_ray._plugin",
}  # fmt: skip
"""What every command imports of the plugins."""
WIDTHS = (10, 20, 45, 200)


def imported(project: Path, *arguments: str) -> set[str]:
    """The modules that a fresh interpreter has imported at the end of a command."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    env = os.environ | {"CANO_BLOCK": ""}
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return set(json.loads((project / "imported.json").read_text()))


def roots(modules: set[str]) -> set[str]:
    """The packages of the modules."""
    return {name.partition(".")[0] for name in modules}


def test_help_imports_no_machinery(project: Path) -> None:
    """`cano --help` lists all commands, and imports neither them nor an event loop nor what plugins work with."""
    modules = imported(project, "--help")

    assert roots(modules) & {
        "asyncio", "ssl", "rich", "structlog", "opentelemetry", "msgspec", "sqlite3", "psycopg", "redis", "zoneinfo",
        "croniter", "zstandard", "cryptography", "difflib", "hashlib",
    } == set()  # fmt: skip
    assert {name for name in modules if name.startswith("cano_") and "." in name} <= {
        *OF_THE_COMMAND, *OF_PLUGINS, "cano_memory.backend", "cano_memory.slots", "cano_memory.store",
        "cano_msgspec.codec", "cano_zstd.layer",
    }  # fmt: skip
    assert not modules & {f"cano_cli.{name.replace('-', '_')}" for name in SUMMARIES}
    assert "cano.kernel.kernel" not in modules


def test_a_command_imports_no_other(project: Path) -> None:
    """The command that is chosen is imported, and no other."""
    modules = imported(project, "prune", "--help")

    others = {f"cano_cli.{name.replace('-', '_')}" for name in SUMMARIES} - {"cano_cli.prune"}
    assert "cano_cli.prune" in modules
    assert not modules & others


def test_run_without_schedules_imports_no_scheduler(project: Path, write: Callable[[str, str], Path]) -> None:
    """When the first step runs, neither a scheduler, nor telemetry, nor another store or command is imported."""
    write("noop.py", NOOP)

    imported(project, "run", "noop.py:flow")

    modules = set((project / "first_step.txt").read_text().split())
    assert "cano.kernel.kernel" in modules
    other = ("cano_scheduler.", "cano_postgres.", "cano_redis.", "cano_sqlite.", "cano_otel.", "cano_structlog.",
             "cano_encryption.", "cano_offload.")  # fmt: skip
    assert {name for name in modules if name.startswith(other)} <= OF_PLUGINS
    assert roots(modules) & {
        "opentelemetry", "rich", "structlog", "sqlite3", "psycopg", "redis", "croniter", "zstandard",
        "cryptography", "difflib",
    } == set()  # fmt: skip
    assert not modules & {f"cano_cli.{name.replace('-', '_')}" for name in SUMMARIES if name != "run"}


def test_the_scheduler_is_imported_on_first_use(project: Path) -> None:
    """`import cano_scheduler` imports nothing of it, yet has all its names, and refuses others as ever."""
    program = (
        "import sys, cano_scheduler\n"
        "assert not [name for name in sys.modules if name.startswith(('asyncio', 'cano_scheduler.'))]\n"
        "assert set(cano_scheduler.__all__) <= set(dir(cano_scheduler))\n"
        "assert not hasattr(cano_scheduler, 'Schedular')\n"
        "from cano_scheduler import *\n"
        "assert Scheduler is cano_scheduler.Scheduler is vars(cano_scheduler)['Scheduler']\n"
        "assert [name for name in cano_scheduler.__all__ if name not in globals()] == []\n"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=project)


@pytest.mark.parametrize("name", SUMMARIES)
def test_summary(name: str) -> None:
    """The list of commands shows for each what its own help would give."""
    listed = make_app().commands[name]
    assert isinstance(listed, BuiltIn)
    real = listed.imported()

    assert (real.name, real.hidden, real.deprecated) == (name, listed.hidden, listed.deprecated)
    assert [listed.get_short_help_str(width) for width in WIDTHS] == [
        real.get_short_help_str(width) for width in WIDTHS
    ]


def test_summaries_are_whole() -> None:
    """The list of commands cuts no sentence, however narrow the terminal is."""
    for width in (60, 100):
        shown = CliRunner().invoke(make_app(), ["--help"], terminal_width=width).output
        assert "..." not in shown.partition("Commands:")[2]
        assert SUMMARIES["audit"] in " ".join(shown.split())


def test_defaults_have_units() -> None:
    """The default of a duration is shown as a user writes it."""
    app, count = make_app(), 0
    for name in SUMMARIES:
        for option in app.commands[name].imported().params:  # type: ignore[attr-defined]
            if option.metavar == METAVAR and isinstance(option.default, str | float):
                assert str(option.default).endswith("s"), (name, option.name)
                count += 1
    assert count >= 6


def test_summaries_of_plugins() -> None:
    """So do commands of plugins that are imported when they are chosen."""
    app = make_app()
    add_plugin_commands(app, Settings().plugins(), pytest.fail)
    listed = {name: command for name, command in app.commands.items() if name not in SUMMARIES}
    assert {"offload-sweep", "reencrypt", "schedule"} <= listed.keys()

    for name, command in listed.items():
        real = command.make_context(name, [], resilient_parsing=True).command
        assert real.name == name
        assert [*map(command.get_short_help_str, WIDTHS)] == [*map(real.get_short_help_str, WIDTHS)]


def test_options_of_plugins() -> None:
    """An option that a plugin appends to a command of the list is one of the real command, once."""
    for _ in range(2):
        command = make_app().commands["graph"]
        command.params.append(click.Option(["--loud"], is_flag=True, expose_value=False))
        real = command.make_context("graph", [], resilient_parsing=True).command
        names = [option.name for option in real.params]
        assert names.count("loud") == 1
    del real.params[names.index("loud")]
