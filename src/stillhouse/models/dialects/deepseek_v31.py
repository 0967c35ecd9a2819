"""DeepSeek-V3.1: thinks only where the prompt ends in ``<think>``; by default in ``</think>``."""

from __future__ import annotations

from stillhouse.models.dialects.base import Dialect, ReasoningMarks

MARKS = ReasoningMarks()


def after_first_close(text: str) -> str:
    """What follows the first ``</think>``, as V3.1's own template cuts earlier answers."""
    before, mark, after = text.partition(MARKS.close)
    return after if mark else before


DEEPSEEK_V31 = Dialect("deepseek_v31", history=after_first_close, reasoning=MARKS)
