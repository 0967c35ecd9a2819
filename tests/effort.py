"""How much a test tries: all of it, or little of it before each commit."""

from __future__ import annotations

import os

#: Set by `make check`; `make test` tries everything.
IS_QUICK = bool(os.environ.get("STILLHOUSE_QUICK"))
QUICK_EXAMPLES = 20


def examples(most: int) -> int:
    """How many examples hypothesis makes of a property that deserves so many."""
    return min(most, QUICK_EXAMPLES) if IS_QUICK else most
