"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# the whole workspace is installed here: plugins that write to stderr by themselves stay out of tests of other things
os.environ.setdefault("CANO_BLOCK", "structlog")

# new examples are tried where somebody is there to look at them; in CI the same ones every time
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
