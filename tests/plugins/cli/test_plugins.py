"""`cano plugins`, and commands that plugins add."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from click.testing import Result

Cano = Callable[..., Result]
Install = Callable[..., None]

GREETING = """
    import click
    from cano import hookimpl

    @hookimpl
    def cano_commands(app):
        @app.command()
        @click.argument("name")
        def greet(name):
            "Say hello."
            click.echo(f"hello {name}")
"""
BROKEN = """
    import click
    from cano import hookimpl

    @hookimpl
    def cano_commands(app):
        app.add_command(click.Command("half"))
        raise RuntimeError("not today")
"""


def test_entry_points() -> None:
    """The command and the plugin are where the packaging says."""
    from cano_cli.main import main

    (script,) = entry_points(group="console_scripts", name="cano")
    assert script.load() is main
    (plugin,) = entry_points(group="cano", name="cli")
    assert plugin.load().CANO_API_VERSION == 2


def test_version(cano: Cano) -> None:
    """`--version` tells the version of the command."""
    assert cano("--version").stdout == f"cano {version('cano-cli')}\n"


def test_list(cano: Cano, install: Install) -> None:
    """Every plugin is listed with distribution, version, status and hooks, in the order of registration."""
    install("zoo", GREETING)
    install("absent", "import no_such_module\n", version="3")

    result = cano("--block", "retry", "plugins")
    plugins, stores = result.stdout.split("\n\n")
    rows = [line.split(maxsplit=5) for line in plugins.splitlines()]

    assert result.exit_code == 0
    table = [line.split() for line in stores.splitlines()]
    assert table[0] == [
        "store", "durable", "encoded", "strict", "history", "retention", "notify", "pages", "audit", "prune", "claims",
        "history_pages", "namespaces", "appends", "signal_limit",
        "filters", "attributes", "ready_filters", "streams", "transactions",
        "orders", "outcomes", "queues", "slots", "connections",
    ]  # fmt: skip
    memory = "no no no yes yes no yes no yes yes yes yes no yes yes yes yes yes no yes yes yes yes no"
    sqlite = "yes yes no yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes"
    assert ["memory:", *memory.split()] in table
    assert ["sqlite:", *sqlite.split()] in table
    assert rows[0] == ["order", "name", "distribution", "version", "status", "hooks"]
    assert rows[1] == ["1", "concurrency", "cano", "built-in", "active", "cano_bind_state"]
    assert rows[2] == [
        "2", "absent", "cano-absent", "3", "failed", "ModuleNotFoundError: No module named 'no_such_module'",
    ]  # fmt: skip
    assert ["zoo", "cano-zoo", "1.2", "active", "cano_commands"] in [row[1:] for row in rows]
    why = "blocked by --block; remove it there"
    assert ["retry", "cano-retry", version("cano-retry"), "blocked", why] in [row[1:] for row in rows]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(1, len(rows))]


def test_list_as_json(cano: Cano, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for programs."""
    install("absent", "import no_such_module\n", version="3")
    monkeypatch.setenv("CANO_BLOCK", "memory")

    answer = json.loads(cano("plugins", "--json").stdout)
    by_name = {plugin["name"]: plugin for plugin in answer}

    assert by_name["absent"] == {
        "order": 2,
        "name": "absent",
        "distribution": "cano-absent",
        "version": "3",
        "status": "failed",
        "hooks": [],
        "error": "ModuleNotFoundError: No module named 'no_such_module'",
        "stores": {},
    }
    assert by_name["memory"]["stores"] == {}
    assert by_name["sqlite"]["stores"]["sqlite"]["durable"] is True
    assert by_name["memory"]["status"] == "blocked"
    assert by_name["cli"]["status"] == "active"
    assert by_name["retry"]["hooks"] == ["cano_default_config", "cano_retry_strategy"]


def test_broken_plugin_is_a_short_warning(cano: Cano, install: Install) -> None:
    """A plugin that cannot be imported is named in one line, however many kernels meet it; all else works."""
    install("absent", "import no_such_module\n", version="3")

    result = cano("run", "flows:flow")

    assert result.exit_code == 0
    assert result.stderr == (
        "Warning: the plugin 'absent' (cano-absent 3) cannot be used: ModuleNotFoundError: No module named "
        "'no_such_module'. Repair or uninstall it, or block it: Kernel(block=['absent']) or CANO_BLOCK=absent\n"
    )
    assert cano("--block", "absent", "run", "flows:flow").stderr == ""


def test_other_warnings_stay_what_they_are(cano: Cano, install: Install) -> None:
    """Warnings that are not about plugins are Python's affair."""
    install("noisy", "import warnings\nwarnings.warn('old', FutureWarning)\n")

    with pytest.warns(FutureWarning, match="old"):
        cano("--help")


def test_plugin_command(cano: Cano, install: Install) -> None:
    """A plugin adds a command, which is in the help, and can be blocked."""
    install("zoo", GREETING)

    assert cano("greet", "Ada").stdout == "hello Ada\n"
    assert re.search(r"^  greet +Say hello\.$", cano("--help").stdout, re.MULTILINE)
    assert cano("--block", "zoo", "greet", "Ada").exit_code == 2
    assert "greet" not in cano("--block", "zoo", "--help").stdout


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (BROKEN, "RuntimeError: not today"),
        (GREETING.replace("@app.command()", "@app.command('run')"),
         "ValueError: it replaces existing commands: run"),
        (BROKEN.replace("@hookimpl", "@hookimpl(wrapper=True)").replace("raise", "yield; raise"),
         "TypeError: it implements cano_commands as a wrapper, which cano-cli does not support"),
        (BROKEN.replace("raise RuntimeError", "raise SystemExit"), "SystemExit: not today"),
    ],
)  # fmt: skip
def test_plugin_that_cannot_add_its_commands(cano: Cano, install: Install, code: str, reason: str) -> None:
    """It is named in a warning and adds nothing at all; other plugins and the command itself go on."""
    install("zoo", GREETING)
    install("ape", code, distribution="monkey-business", version="7")

    result = cano("greet", "Ada")

    assert result.stdout == "hello Ada\n"
    assert result.stderr == (f"Warning: the plugin 'ape' (monkey-business 7) cannot add its commands: {reason}\n")
    assert cano("half").exit_code == 2
    assert cano("run", "flows:flow").exit_code == 0


def test_async_commands(cano: Cano, install: Install) -> None:
    """The kernel refuses a plugin whose hook is async where it cannot be; its commands are not there."""
    install("ape", GREETING.replace("def cano_commands(app)", "async def cano_commands(app)"))

    result = cano("run", "flows:flow")

    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: the plugin 'ape' (cano-ape 1.2) cannot be used: ")
    assert cano("greet", "Ada").exit_code == 2


def test_readme(cano: Cano, install: Install) -> None:
    """The plugin in the README works."""
    readme = Path(__file__).parents[3] / "plugins" / "cli" / "README.md"
    *_, code = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    install("readme", code)

    assert cano("hello").stdout == "hello\n"


def test_hook_without_argument(cano: Cano, install: Install) -> None:
    """As everywhere in pluggy, an implementation may leave arguments out."""
    install("shy", "from cano import hookimpl\n@hookimpl\ndef cano_commands(): print('called')\n")

    assert cano("--version").stdout.startswith("called\n")


def test_two_plugins_of_one_name(cano: Cano, install: Install) -> None:
    """Then no plugin is loaded. What does not need plugins works, and what does tells why it does not."""
    install("zoo", GREETING)
    install("zoo2", GREETING)
    install("twin", "")
    install("twin", "", distribution="other")
    points = next(Path(sys.path[0]).glob("other-*/entry_points.txt"))
    points.write_text("[cano]\ntwin = plugin_zoo2\n")
    reason = "two plugins are named 'twin': those of "

    shown = cano("--help")
    listed = cano("plugins")
    ran = cano("run", "flows:flow")

    assert shown.exit_code == 0
    assert shown.stderr.startswith(f"Warning: no plugin is loaded: {reason}")
    assert f"Error: {reason}" in listed.stderr
    assert f"Error: {reason}" in ran.stderr
    assert (listed.exit_code, ran.exit_code) == (2, 2)


def test_blocking_what_is_not_there(cano: Cano) -> None:
    """A name that is no plugin's is probably a mistake."""
    result = cano("--block", "rety", "--block", "retry", "validate", "flows:flow")

    assert result.exit_code == 0
    message = "the name 'rety' (did you mean 'retry'?) is blocked by --block, but no plugin has it"
    assert result.stderr == f"Warning: {message}\n"


def test_only_some(cano: Cano, install: Install, project: Path) -> None:
    """--only keeps all other installed plugins from being imported, also for their commands; hints repeat it."""
    install("zoo", "open('executed', 'w')\n")

    listed = json.loads(cano("--only", "sqlite, msgspec", "--only", "retry", "plugins", "--json").stdout)
    active = {plugin["name"] for plugin in listed if plugin["status"] == "active"}

    assert active == {"concurrency", "durability", "msgspec", "retry", "sqlite"}
    assert {"memory", "zoo"} < {plugin["name"] for plugin in listed if plugin["status"] == "blocked"}
    rows = [line.split(maxsplit=5) for line in cano("--only", "sqlite,retry", "plugins").stdout.splitlines()]
    assert ["zoo", "blocked", "not in --only; add it: --only sqlite,retry,zoo"] in [
        [row[1], *row[4:]] for row in rows if len(row) > 5
    ]
    missing = cano("--only", "sqlite", "run", "flows:flow", "--store", "sqlite:///x.db")
    assert missing.stderr.rstrip().endswith("'msgspec' is not in --only; add it: --only sqlite,msgspec")
    assert not (project / "executed").exists()
    misspelt = cano("--only", "sqlit", "plugins")
    assert misspelt.exit_code == 2
    assert "no plugin named 'sqlit' (did you mean 'sqlite'?) is installed" in misspelt.stderr


def test_error_of_a_plugin_command(cano: Cano, install: Install) -> None:
    """What the engine raises in a plugin's command is told in a line, with exit code 1."""
    install(
        "zoo",
        """
        from cano import hookimpl, RunNotFoundError

        @hookimpl
        def cano_commands(app):
            @app.command()
            def seek():
                raise RunNotFoundError("there is no run r1")
        """,
    )

    result = cano("seek")

    assert result.exit_code == 1
    assert result.stderr == "Error: there is no run r1\n"
