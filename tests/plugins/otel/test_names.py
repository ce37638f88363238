"""The table of names in the README is the table of names in the code."""

from __future__ import annotations

import re
from pathlib import Path

from cano_otel import names

README = Path(__file__).parents[3] / "plugins" / "otel" / "README.md"


def test_every_name_is_in_the_table() -> None:
    """Each name that reaches a backend is in the README's table, and nothing else is."""
    table = README.read_text(encoding="utf-8").partition("## Names")[2].partition("\nThe tracer and the meter")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    written = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    values = {names.EXECUTING, names.SUCCESS, names.FAILURE, names.TIMEOUT, names.CANCELLATION}
    values |= {names.EARLIER, names.CALLER, names.SCOPE}
    spans = {"RUN <workflow>", "step <state>", "branch <task>", *names.PHASES}
    constants = {value for key, value in vars(names).items() if key.isupper() and isinstance(value, str)}

    assert sorted(written) == sorted((constants - values - {"RUN", "step", "branch"}) | spans)
