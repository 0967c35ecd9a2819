"""Scales the number of examples: all of them, or a few before each commit."""

from __future__ import annotations

import os

#: Set by `make check`; `make test` runs all examples.
IS_QUICK = bool(os.environ.get("STILLHOUSE_QUICK"))
QUICK_EXAMPLES = 20


def examples(most: int) -> int:
    """Return the number of hypothesis examples for a property that deserves *number* of them."""
    return min(most, QUICK_EXAMPLES) if IS_QUICK else most
