"""What all tests share."""

from __future__ import annotations

import os

# the whole workspace is installed here: plugins that write to stderr by themselves stay out of tests of other things
os.environ.setdefault("CANO_BLOCK", "structlog")
