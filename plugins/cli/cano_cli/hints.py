"""Ids and commands as a user can paste them into a shell."""

from __future__ import annotations

import ast
import re
import shlex

import click
from click.core import ParameterSource

from cano_cli.settings import Settings

MODULE_FLOW = "MODULE:FLOW"
_PLAIN = re.compile(r"[^\s'\"=<>!(),]+")
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_CALL = re.compile(rf"kernel\.(cancel|delete|resume|run)\((?:flow, )?(?:run_id=)?({_TEXT})\)")


def word(text: str) -> str:
    """Return `text` as one word of a shell command: quoted only if that is needed."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.encode("unicode_escape").decode().replace("'", r"\'")
    return f"$'{escaped}'"  # bash, zsh and ksh read the escapes


def filter_value(text: str) -> str:
    """Return `text` as a value of a filter: quoted only if that is needed, so that a shell needs one pair of quotes."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def display_name(url: str, namespace: str | None = None) -> str:
    """Return `url` as messages may show it: without its password and other secrets, and with the namespace."""
    from cano import Kernel  # late: it imports asyncio, which `cano --help` does not need

    return Kernel(store=url, discover=False, namespace=namespace).store_name


def command(ctx: click.Context, name: str, *arguments: str) -> str:
    """Return the command line of `cano NAME ARGUMENTS`, on the same store and with the same plugins as this command.

    A namespace that the environment names is not repeated.
    """
    settings: Settings = ctx.obj
    block = [part for plugin in settings.block for part in ("--block", plugin)]
    only = ["--only", ",".join(settings.only)] if settings.only else []
    by_option = ctx.find_root().get_parameter_source("namespace") is ParameterSource.COMMANDLINE
    part = ["--namespace", settings.namespace] if settings.namespace and by_option else []
    return " ".join(map(word, ["cano", *block, *only, *part, name, *arguments, *_store(ctx)]))


def with_commands(text: str) -> str:
    """Return `text` with commands in place of the calls that it recommends, such as `kernel.cancel('r')`."""
    ctx = click.get_current_context(silent=True)
    if ctx is None or "store" not in ctx.params:
        return text
    arguments = {"run": [MODULE_FLOW, "--run-id"], "resume": [MODULE_FLOW]}

    def line_of(call: re.Match[str]) -> str:
        return command(ctx, call[1], *arguments.get(call[1], ()), ast.literal_eval(call[2]))

    return _CALL.sub(line_of, text)


def _store(ctx: click.Context) -> list[str]:
    """Return the option --store, unless the environment names the store. A URL that may have a secret is not shown."""
    if ctx.get_parameter_source("store") is not ParameterSource.COMMANDLINE:
        return []
    url: str = ctx.params["store"]
    return ["--store", url if display_name(url) == repr(url) else "URL"]
