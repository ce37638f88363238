"""Texts from outside (ids, keys, data, errors) as lines that a terminal does not interpret."""

from __future__ import annotations

import click
from cano.safe_text import escaped, safe_str

from cano_cli.settings import Settings


def line(value: object) -> str:
    """Return `value` as one line of text: control characters and the like are escaped, except with `cano --raw`."""
    text = value if isinstance(value, str) else safe_str(value)
    context = click.get_current_context(silent=True)
    settings = None if context is None else context.find_object(Settings)
    return text if settings is not None and settings.raw else escaped(text)


def lines(text: str, indent: str = "") -> str:
    """Return a text of several lines, each as `line` returns it. All but the first begin with `indent`."""
    return f"\n{indent}".join(map(line, text.split("\n")))
