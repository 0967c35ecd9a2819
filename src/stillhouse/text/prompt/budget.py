"""Bounds the work and the text of one rendering of a chat template."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

MAX_TEXT_CHARS = 1 << 20
#: The context's key of the budget; no identifier, so that no template can name it.
BUDGET_KEY = "steps left"


class Budget:
    """
    Counts down the work that one rendering may still do; owned by that rendering alone.

    Args:
        steps: About the number of rounds of loops, calls of macros and 256 characters of text.
        steps_per_round: More than 1 for long templates, as a round can copy all of its text.

    """

    def __init__(self, steps: int, *, steps_per_round: int = 1) -> None:
        self._steps = steps
        self._steps_per_round = steps_per_round

    def spend_round(self) -> None:
        """Counts one round of a loop or one call of a macro."""
        self._spend(self._steps_per_round)

    def spend_text(self, num_chars: int) -> None:
        """Counts a text that was put together or written."""
        if num_chars > MAX_TEXT_CHARS:
            raise SecurityError(f"a text in the template exceeds {MAX_TEXT_CHARS} characters")
        self._spend(1 + num_chars // 256)

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise SecurityError("the template does too much work for this conversation")


def budget_of(context: Context) -> Budget:
    """Returns the budget of the rendering that owns *context*."""
    budget = context.parent[BUDGET_KEY]
    assert isinstance(budget, Budget)
    return budget


def bounded(chunks: Iterator[str], *, max_chars: int) -> str:
    """Joins the chunks; raises SecurityError as soon as the text exceeds *max_chars*."""
    parts: list[str] = []
    num_chars = 0
    for chunk in chunks:
        num_chars += len(chunk)
        if num_chars > max_chars:
            raise SecurityError("the template writes too much text for this conversation")
        parts.append(chunk)
    return "".join(parts)
